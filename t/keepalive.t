# Several requests on one connection, one after the other and pipelined.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(min);
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /burn { @{[ burn_rules(1) ]} return 200 "burnt\\n"; }
    }
EOC

# Keepalive: twenty connections with six requests each
for (1 .. 20) {
    my $connection = $t->connect('http');
    $connection->get('/a.txt', host => 'keep.test') for 1 .. 6;
    $connection->close;
}
my @lines = $t->logged(120);
my $account = $t->account_with('hosts', 'keep.test', 120);
is($account->{requests}, 120, 'every request of a connection is counted');
is_deeply(
    { map { $_ => $account->{by_connection_order}{$_}{requests} } keys %{ $account->{by_connection_order} } },
    { 1 => 20, 2 => 20, 3 => 20, '4+' => 60 },
    'by its order in its connection',
);
is(sum(map { $_->{cpu_ns} } values %{ $account->{by_connection_order} }), sum(map { $_->{ns} } @lines),
    'CPU by order is the sum of the log lines');
for my $order (1 .. 3) {
    is($account->{by_connection_order}{$order}{cpu_ns}, sum(map { $_->{ns} } grep { $_->{order} == $order } @lines),
        "and for order $order");
}
# the minimum of twenty: a busy machine makes some requests cost more, but none less than its work
my %connection_ns = map { my $order = $_;
    $order => min(map { $_->{conn_ns} } grep { $_->{order} == $order } @lines) } 1 .. 6;
cmp_ok($connection_ns{1}, '>', $connection_ns{$_},
    "the first request takes over more from its connection than number $_") for 2 .. 6;
is(scalar(grep { $_->{wakeups} < 1 } @lines), 0, 'every request was woken');

# The end of a connection is charged to the account of its last request.
my $idle = $t->connect('http');
$idle->get('/a.txt', host => 'leftover.test');
my $open = $t->account_with('hosts', 'leftover.test', 1);
my ($worker) = @{ $t->status->{workers} };
$idle->close;
wait_until(60, sub { $t->account('hosts', 'leftover.test')->{cpu_ns} > $open->{cpu_ns} });
my $closed = $t->account('hosts', 'leftover.test');
cmp_ok($closed->{cpu_ns}, '>', $open->{cpu_ns}, 'closing the connection is charged to the account of its last request');
is($closed->{requests}, 1, 'which has no more requests for that');
my ($worker_after) = @{ $t->status->{workers} };

# Pipelining: ten requests in one packet, for two hosts in turn
$t->clear_log;
my $used = $t->measured(sub {
    my $connection = $t->connect('http');
    $connection->send(join '', map {
        Test::RequestCpu::Connection->request_text("/a.txt?$_", host => $_ % 2 ? 'odd.test' : 'even.test')
    } 1 .. 10);
    my @status = map { $connection->response->{status} } 1 .. 10;
    is_deeply(\@status, [ (200) x 10 ], 'ten requests in one packet are answered');
    $connection->close;
    $t->logged(10);
});
@lines = $t->logged(10);
is_deeply([ map { $_->{uri} } @lines ], [ map { "/a.txt?$_" } 1 .. 10 ], 'in their order');
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 10, 'each has CPU of its own');
cmp_ok(sum(map { $_->{ns} } @lines), '<=', $used, 'all together no more than the thread used');
is($t->account_with('hosts', 'odd.test', 5)->{requests}, 5, 'one host has its five');
is($t->account_with('hosts', 'even.test', 5)->{requests}, 5, 'the other one too');

# An expensive request between cheap ones
$t->clear_log;
my $connection = $t->connect('http');
my @uri = ('/a.txt?1', '/a.txt?2', '/burn?x=' . burn_text(20), '/a.txt?4', '/a.txt?5');
my @host = qw(cheap.test cheap.test dear.test cheap.test cheap.test);
$connection->send(join '', map { Test::RequestCpu::Connection->request_text($uri[$_], host => $host[$_]) } 0 .. 4);
$connection->response for 1 .. 5;
$connection->close;
@lines = $t->logged(5);
my $dear = $lines[2]{ns};
cmp_ok($_->{ns} * 10, '<', $dear, "a cheap request ($_->{uri}) in a pipeline does not pay for the dear one")
    for @lines[0, 1, 3, 4];
cmp_ok($t->account_with('hosts', 'dear.test', 1)->{cpu_ns}, '>',
    5 * $t->account_with('hosts', 'cheap.test', 4)->{cpu_ns},
    'nor does its account');

# A pipeline that is cut in the middle of a request, and one that contains a body
$t->clear_log;
$connection = $t->connect('http');
my $text = join '', map { Test::RequestCpu::Connection->request_text("/a.txt?cut$_", host => 'cut.test',
    $_ == 2 ? (method => 'POST', body => 'x' x 5000) : ()) } 1 .. 4;
my $middle = int(length($text) * 0.9);
$connection->send(substr $text, 0, $middle);
$connection->send(substr $text, $middle);
is(join(' ', map { $connection->response->{status} } 1 .. 4), '200 405 200 200',
    'a pipeline in two packets is answered');
$connection->close;
$t->logged(4);
my $cut = $t->account_with('hosts', 'cut.test', 4);
is_deeply($cut->{responses}, { '1xx' => 0, '2xx' => 3, '3xx' => 0, '4xx' => 1, '5xx' => 0 }, 'and counted by class');

$t->done;
