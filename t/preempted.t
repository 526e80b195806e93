# A request that is preempted is charged the CPU that it uses, not the time that it loses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(time);

my $t = Test::RequestCpu->new->need('gzip');
plan(skip_all => 'taskset is not here to pin the busy loop') if system('taskset -p $$ >/dev/null 2>&1') != 0;

my ($processor) = reverse $t->processors;
$t->html('text.txt', words(1_500_000));
$t->start(main => $t->affinity($processor), http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name gzip.test;
        location / { gzip on; gzip_types *; gzip_comp_level 9; }
        location = /burn { @{[ burn_rules(3) ]} return 200 "burnt\\n"; }
    }
EOC

# One request: its charge, the CPU that the worker's thread used in the same time, and the elapsed time.
sub request {
    my ($uri, %option) = @_;
    my $took;
    my ($charged, $used) = $t->charged_and_used(1, sub {
        my $start = time;
        $t->get($uri, host => 'gzip.test', %option);
        $took = time - $start;
    });
    return { charged => $charged, used => $used, lost => $took * 1e9 / $charged };
}

my %kind = (
    'gzip, over many wakeups' => sub { request('/text.txt', headers => { 'Accept-Encoding' => 'gzip' }) },
    'a burn in one wakeup' => sub { request('/burn?x=' . burn_text(20)) },
);

for my $name (sort keys %kind) {
    my (@beside, $lost);
    $kind{$name}->();
    for my $round (1 .. 20) {
        my $loop = $t->spawn('taskset', '-c', $processor, $^X, '-e', '1 while 1');
        wait_until(60, sub { ($t->sched_ns($loop->pid) || 0) > 20_000_000 }) or die "busy loop does not run\n";
        push @beside, $kind{$name}->();
        $loop->end;
        $lost = median(map { $_->{lost} } @beside);
        last if $round >= 5 && $lost > 1.4;
    }
    my ($charged, $used) = map { my $what = $_; sum(map { $_->{$what} } @beside) } qw(charged used);
    within($charged, $used, 0.9, 1, "$name: charged beside a busy loop what the thread used");
    is(scalar(grep { $_->{charged} > $_->{used} } @beside), 0, "$name: and never more");

    # Without preemption by the loop, the comparison would prove nothing.
    cmp_ok($lost, '>', 1.4, "$name: the loop did take the processor away");
}

$t->done;
