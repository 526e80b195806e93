# Two domains on one worker at the same time: each is charged its own work.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('gzip');
$t->html('text.txt', words(300_000));
$t->html('a.txt', "plain\n");

$t->start(http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    gzip_types *; gzip_comp_level 9;
    server { listen 127.0.0.1:{{port:http}}; server_name heavy.test; location / { gzip on; } }
    server { listen 127.0.0.1:{{port:http}}; server_name light.test; location / { } }
EOC

my ($heavy_requests, $light_requests) = (10, 200);
my @domains = qw(heavy.test light.test);

sub heavy {
    $t->get('/text.txt', host => 'heavy.test', headers => { 'Accept-Encoding' => 'gzip' }) for 1 .. $heavy_requests;
    1;
}

sub light {
    my $connection = $t->connect('http');
    for (1 .. $light_requests) {
        # a new connection now and then, so that it fits into short gaps between the other domain's handler calls
        $connection = $t->connect('http') if $_ % 50 == 0;
        $connection->get('/a.txt', host => 'light.test');
    }
    1;
}

# Runs both at the same time, in separate processes.
sub together { my @both = map { detached($_) } @_; $_->result for @both }

# A request costs beside the other domain what it costs alone. A small request finds cold processor caches if a large
# one has just run, or, when it is alone, if its worker was asleep. That costs more, and is part of its own cost.
my %bound = ('heavy.test' => [ 0.67, 1.5 ], 'light.test' => [ 0.2, 4 ]);
sub is_within {
    my ($value, $reference, $bound) = @_;
    return $value >= $bound->[0] * $reference && $value <= $bound->[1] * $reference;
}
my $rounds = 0;
sub medians {
    my ($code) = @_;
    $t->clear_log;
    $code->();
    my @lines = $t->logged($heavy_requests + $light_requests);
    return { map { my $server = $_;
        $server => median(map { $_->{ns} } grep { $_->{server} eq $server } @lines) } @domains };
}
my (%alone, %beside);
while ($rounds++ < 20) {
    for ([ \%alone, sub { heavy(); light() } ], [ \%beside, sub { together(\&heavy, \&light) } ]) {
        my ($least, $medians) = ($_->[0], medians($_->[1]));
        for my $server (@domains) {
            $least->{$server} = $medians->{$server} if !$least->{$server} || $medians->{$server} < $least->{$server};
        }
    }
    last if $rounds >= 2 && !grep { !is_within($beside{$_}, $alone{$_}, $bound{$_}) } @domains;
}
for my $server (@domains) {
    within($beside{$server}, $alone{$server}, @{ $bound{$server} },
        "$server: a request costs beside the other what it costs alone");
}
cmp_ok($alone{'heavy.test'}, '>', 20 * $alone{'light.test'}, 'one domain is expensive, the other is not');

my %before = map { $_ => $t->account_with('domains', $_, 1) } @domains;
my ($worker_before) = @{ $t->status->{workers} };
$t->clear_log;

my ($used, $work) = $t->worked(sub {
    together((\&heavy, \&light) x 2);
    $t->logged(2 * ($heavy_requests + $light_requests));
});
my @lines = $t->log_lines;
my %after = (
    'heavy.test' => $t->account_with('domains', 'heavy.test', $before{'heavy.test'}{requests} + 2 * $heavy_requests),
    'light.test' => $t->account_with('domains', 'light.test', $before{'light.test'}{requests} + 2 * $light_requests),
);
my ($cheapest) = sort { $a <=> $b } map { $_->{ns} } grep { $_->{server} eq 'heavy.test' } @lines;
is(scalar(grep { $_->{server} eq 'light.test' && $_->{ns} * 2 > $cheapest } @lines), 0,
    'no cheap request is charged for an expensive one');
my ($worker_after) = @{ $t->status->{workers} };

my $together = 0;
for my $server (@domains) {
    my @mine = grep { $_->{server} eq $server } @lines;
    my $requests = 2 * ($server eq 'heavy.test' ? $heavy_requests : $light_requests);
    is($after{$server}{requests} - $before{$server}{requests}, $requests, "$server: requests are counted");
    my $cpu = $after{$server}{cpu_ns} - $before{$server}{cpu_ns};
    my $logged = sum(map { $_->{ns} } @mine);
    cmp_ok($cpu, '>=', $logged, "$server: the account has what its log lines have, and what came after them");
    within($cpu, $logged, 1, $server eq 'heavy.test' ? 1.1 : 2, "$server: and little more");
    is($after{$server}{wakeups} - $before{$server}{wakeups} >= sum(map { $_->{wakeups} } @mine), 1,
        "$server: wakeups are counted");
    is($after{$server}{sent_bytes} - $before{$server}{sent_bytes}, sum(map { $_->{sent} } @mine),
        "$server: sent bytes are those of the log");
    is($after{$server}{received_bytes} - $before{$server}{received_bytes}, sum(map { $_->{received} } @mine),
        "$server: received bytes too");
    $together += $cpu;
}

my $charged = $worker_after->{charged_ns} - $worker_before->{charged_ns};
cmp_ok($together, '<=', $charged, 'the accounts together have at most the charged CPU');
# The rest is the cost of the status requests.
within($together, $charged, 0.9, 1, 'and hardly less');
cmp_ok($together, '<=', $used, 'no more than the thread used');
within($together, $work, 0.95, 1.05, 'and all of its work');

$t->done;
