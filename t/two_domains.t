# Two domains on one worker, at the same time: each gets its own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('gzip');
$t->html('text.txt', words(400_000));
$t->html('a.txt', "plain\n");

$t->start(http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    gzip_types *; gzip_comp_level 9;
    server { listen 127.0.0.1:{{port:http}}; server_name heavy.test; location / { gzip on; } }
    server { listen 127.0.0.1:{{port:http}}; server_name light.test; location / { } }
EOC

my ($heavy_requests, $light_requests) = (12, 400);

sub heavy { $t->get('/text.txt', host => 'heavy.test', headers => { 'Accept-Encoding' => 'gzip' }) for 1 .. $heavy_requests; 1 }

sub light {
    my $connection = $t->connect('http');
    for (1 .. $light_requests) {
        # Small windows of time between the other domain's wakeups: a fresh connection every now and then
        $connection = $t->connect('http') if $_ % 50 == 0;
        $connection->get('/a.txt', host => 'light.test');
    }
    1;
}

# Alone, for comparison.
heavy();
light();
my @lines = $t->logged($heavy_requests + $light_requests);
my %alone = map { my $server = $_; $server => median(map { $_->{ns} } grep { $_->{server} eq $server } @lines) } qw(heavy.test light.test);
cmp_ok($alone{'heavy.test'}, '>', 20 * $alone{'light.test'}, 'one domain is dear, the other is not');

my %before = map { $_ => $t->account_with('domains', $_, 1) } qw(heavy.test light.test);
my ($worker_before) = @{ $t->status->{workers} };
$t->clear_log;

my ($used, $work) = $t->worked(sub {
    my @both = (detached(\&heavy), detached(\&light), detached(\&heavy), detached(\&light));
    $_->result for @both;
    $t->logged(2 * ($heavy_requests + $light_requests));
});
@lines = $t->log_lines;
my %after = (
    'heavy.test' => $t->account_with('domains', 'heavy.test', 3 * $heavy_requests),
    'light.test' => $t->account_with('domains', 'light.test', 3 * $light_requests),
);
my ($worker_after) = @{ $t->status->{workers} };

my $together = 0;
for my $server (qw(heavy.test light.test)) {
    my @mine = grep { $_->{server} eq $server } @lines;
    my $requests = 2 * ($server eq 'heavy.test' ? $heavy_requests : $light_requests);
    is($after{$server}{requests} - $before{$server}{requests}, $requests, "$server: requests are counted");
    my $cpu = $after{$server}{cpu_ns} - $before{$server}{cpu_ns};
    my $logged = sum(map { $_->{ns} } @mine);
    cmp_ok($cpu, '>=', $logged, "$server: the account has what its log lines have, and what came after them");
    within($cpu, $logged, 1, $server eq 'heavy.test' ? 1.1 : 2, "$server: and little more");
    # A small request finds the processor's caches cold when a large one has just run, or, alone, when its worker was woken from
    # sleep; it is dearer by that, which is its own cost.
    within(median(map { $_->{ns} } @mine), $alone{$server}, $server eq 'heavy.test' ? (0.5, 1.5) : (0.2, 4),
        "$server: a request costs beside the other what it costs alone");
    is($after{$server}{wakeups} - $before{$server}{wakeups} >= sum(map { $_->{wakeups} } @mine), 1, "$server: wakeups are counted");
    is($after{$server}{sent_bytes} - $before{$server}{sent_bytes}, sum(map { $_->{sent} } @mine), "$server: sent bytes are those of the log");
    is($after{$server}{received_bytes} - $before{$server}{received_bytes}, sum(map { $_->{received} } @mine), "$server: received bytes too");
    $together += $cpu;
}

my $charged = $worker_after->{charged_ns} - $worker_before->{charged_ns};
cmp_ok($together, '<=', $charged, 'the accounts together have no more than the books have charged');
# The rest is what the requests for the status page cost.
within($together, $charged, 0.9, 1, 'and hardly less');
cmp_ok($together, '<=', $used, 'no more than the thread used');
within($together, $work, 0.95, 1.05, 'and all of what it did');

$t->done;
