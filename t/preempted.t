# A request that shares its processor is charged what it uses, not what it loses.

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

# One request: what it was charged, and how long it took by the wall clock.
my $nth = 0;
sub request {
    my ($uri, %option) = @_;
    my $mark = ++$nth;
    my $start = time;
    my $answer = $t->get("$uri&n=$mark", host => 'gzip.test', %option);
    my $took = time - $start;
    my ($line) = $t->logged(1, sub { $_[0]{uri} =~ /&n=$mark$/ });
    return { ns => $line->{ns}, took => $took };
}

my %kind = (
    'gzip, over many wakeups' => sub { request('/text.txt?', headers => { 'Accept-Encoding' => 'gzip' }) },
    'a burn in one wakeup' => sub { request('/burn?x=' . burn_text(20)) },
);

# An outside load that happens to be there in one round hits a neighbouring one as well: alone and beside the loop alternate.
for my $name (sort keys %kind) {
    my (@alone, @beside, $shared);
    $kind{$name}->();
    for my $round (1 .. 5) {
        push @alone, $kind{$name}->();
        my $loop = $t->spawn('taskset', '-c', $processor, $^X, '-e', '1 while 1');
        wait_until(5, sub { ($t->sched_ns($loop->pid) || 0) > 20_000_000 }) or die "busy loop does not run\n";
        push @beside, $kind{$name}->();
        $loop->end;
    }
    my ($alone_ns, $beside_ns) = map { median(map { $_->{ns} } @$_) } \@alone, \@beside;
    within($beside_ns, $alone_ns, 0.5, 1.3, "$name: charged the same beside a busy loop");

    # Without this, the loop may have been elsewhere, and the comparison would say nothing.
    my $lost = median(map { $_->{took} * 1e9 / $_->{ns} } @beside);
    cmp_ok($lost, '>', 1.4, "$name: the loop did take the processor away");
}

$t->done;
