# HTTP/3: datagrams of a connection arrive through the listening socket.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use JSON::PP ();
use List::Util qw(min);
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('http_v3', 'http_ssl', 'gzip');

# No HTTP/3 client is part of a standard installation. The test uses aioquic if a Python has it.
my ($python) = grep { $_ && system("$_ -c 'import aioquic' >/dev/null 2>&1") == 0 }
    $ENV{TEST_PYTHON}, "$FindBin::Bin/../target/python/bin/python3", 'python3';
plan(skip_all => 'no Python with aioquic, the HTTP/3 client of this test') unless $python;

my $dir = $t->dir;
$t->certificate(rsa => 'h3');
$t->html('a.txt', "plain\n");
$t->html('text.txt', words(300_000));

# QUIC needs a packet size that loopback has. There may be several workers.
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:h3}} quic;
        ssl_protocols TLSv1.3;
        ssl_certificate {{dir}}/h3.pem; ssl_certificate_key {{dir}}/h3.key;
        http3 on;
        location / { gzip on; gzip_types *; gzip_comp_level 9; gzip_min_length 100; }
        location = /burn { @{[ burn_rules(1) ]} return 200 "burnt\\n"; }
    }
EOC

sub h3 {
    my ($rounds, @requests) = @_;
    my ($status, $output) = run_command($python, "$FindBin::Bin/lib/h3_client.py", $t->port('h3'), $rounds, @requests,
        { stdout_only => 1 });
    return $status == 0 ? @{ JSON::PP->new->decode($output) } : diag("HTTP/3 client failed: $output");
}

# Order in the connection
my @answers = h3(4, 'order.test', '/a.txt');
is_deeply([ map { $_->{status} } @answers ], [ (200) x 4 ], 'four requests over one QUIC connection');
h3(4, 'order.test', '/a.txt') for 1 .. 4;
my @lines = $t->logged(20);
is(scalar(grep { $_->{protocol} eq 'HTTP/3.0' } @lines), 20, 'they were HTTP/3');
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ && $_->{conn_ns} <= $_->{ns} } @lines), 20, 'each is charged');
# the minimum of several: a busy machine makes some requests cost more, but none less than its work
my @first = grep { $_->{order} == 1 } @lines;
cmp_ok(min(map { $_->{ns} } @first), '>', 2 * min(map { $_->{ns} } grep { $_->{order} > 1 } @lines),
    'the first request of a connection pays the handshake');
within(sum(map { $_->{conn_ns} } @first), sum(map { $_->{ns} } @first), 0.5, 1,
    'which is in $request_cpu_connection_ns');

my $handshakes = $t->account('hosts', 'order.test')->{tls_handshakes};
is($handshakes->{new}{handshakes}, 5, 'a handshake is counted for each connection');
within($handshakes->{new}{cpu_ns}, sum(map { $_->{conn_ns} } grep { $_->{order} == 1 } @lines), 0.5, 1,
    'with its CPU, which the first requests have paid');

# Two domains at once
$t->clear_log;
my @both = map { ('heavy.test', "/text.txt?$_", 'light.test', "/a.txt?$_", 'light.test', "/a.txt?$_.2") } 1 .. 6;
my ($used, $work) = $t->worked(sub {
    @answers = h3(3, @both);
    is(scalar(grep { $_->{status} == 200 } @answers), 54, 'streams for two domains on one connection are answered');
    $t->logged(54);
});
@lines = $t->logged(54);
my @heavy = grep { $_->{host} eq 'heavy.test' } @lines;
my @light = grep { $_->{host} eq 'light.test' } @lines;
cmp_ok(median(map { $_->{ns} } @heavy), '>', 5 * median(map { $_->{ns} } @light),
    'a stream that compresses pays for it, its neighbours do not');
my %account = map { my ($host, $n) = @$_; $host => $t->account_with('hosts', $host, $n) } [ 'heavy.test', 18 ],
    [ 'light.test', 36 ];
is("$account{'heavy.test'}{requests} $account{'light.test'}{requests}", '18 36',
    'requests are counted for each domain');
my $cpu = sum(map { $_->{cpu_ns} } values %account);
cmp_ok($cpu, '>=', sum(map { $_->{ns} } @lines), 'accounts have the CPU of the log lines');
ok($cpu <= $used * 1.001, 'and no more than the thread used') or diag("$cpu of $used");
within($cpu, $work, 0.8, 1.1, 'and most of its work');

# An expensive stream
$t->clear_log;
@answers = h3(1, (map { ('cheap.test', "/a.txt?$_") } 1 .. 4), 'dear.test', '/burn?x=' . burn_text(20),
    map { ('cheap.test', "/a.txt?$_") } 5 .. 8);
@lines = $t->logged(9);
my ($dear) = grep { $_->{host} eq 'dear.test' } @lines;
# One of the cheap requests has paid for the handshake.
cmp_ok((sort { $b <=> $a } map { $_->{ns} } grep { $_->{host} eq 'cheap.test' } @lines)[1] * 10, '<', $dear->{ns},
    'an expensive stream costs its neighbours nothing');

# Datagrams that are not QUIC
my $before = $t->account('hosts', 'heavy.test');
my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $t->port('h3'), Proto => 'udp')
    or die "udp: $@\n";
my $noise = $t->measured(sub { $socket->send("\xc0\0\0\0\x01" . 'x' x 1200) for 1 .. 200; $t->quiet });
cmp_ok($noise, '>', 0, 'datagrams that belong to no connection cost CPU');
my $after = $t->account('hosts', 'heavy.test');
is_deeply([ @$after{qw(requests cpu_ns wakeups)} ], [ @$before{qw(requests cpu_ns wakeups)} ],
    'and they are charged to no account');

$t->done;
