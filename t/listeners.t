# Each kind of listening socket.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::IP;
use IO::Socket::UNIX;
use List::Util qw(min);
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;
use Test::RequestCpu::TLS;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
my $path = $t->dir . '/socket';
my $ipv6 = IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1);
my $realip = $t->has('http_realip');

my @listen = ('listen 127.0.0.1:{{port:http}};', 'listen 127.0.0.1:{{port:deferred}} deferred;', "listen unix:$path;",
    'listen 127.0.0.1:{{port:proxied}} proxy_protocol;');
push @listen, 'listen [::1]:{{port:ipv6}};' if $ipv6;
# A server of stream can hand a connection to a listening socket of HTTP.
my $pass = $t->at_least('1.25.5') && $t->has('stream') && $t->{about} !~ /--without-stream_pass_module/;
my @passing = $pass ? ('passed', $t->has('stream_ssl') ? 'passed_tls' : ()) : ();
$t->certificate(ecdsa => 'pass') if @passing > 1;
my $streams = join '', map { <<"EOC" } @passing;
    server {
        listen 127.0.0.1:{{port:$_}}@{[ /tls/
            ? ' ssl; ssl_certificate {{dir}}/pass.pem; ssl_certificate_key {{dir}}/pass.key' : '' ]};
        pass 127.0.0.1:{{port:http}};
    }
EOC

$t->start(main => join('', 'worker_processes 2;', $pass ? $t->load('stream') : ''),
    extra => $pass ? "stream {\n$streams}\n" : '', http => <<"EOC");
    request_cpu_zone \$server_port:\$host zone=ports:1m;
    request_cpu_zone \$remote_addr zone=clients:1m;
    request_cpu zone=ports zone=clients;
    server {
        @listen
        @{[ $realip ? 'set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;' : '' ]}
        location / { }
    }
EOC

my $connections = 10;
sub check {
    my ($name, $key, $connect) = @_;
    my ($host) = $key =~ /:([^:]+)$/;
    $t->clear_log;
    for (1 .. $connections) {
        my $connection = $connect->();
        is($connection->get('/a.txt', host => $host)->{status}, 200, "$name: a request is answered") for 1 .. 2;
        $connection->close;
    }
    my @lines = $t->logged(2 * $connections);
    is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 2 * $connections, "$name: requests are charged");
    # the minimum of several: a busy machine makes some requests cost more, but none less than its work
    my ($first, $second) = map { my $order = $_; min(map { $_->{conn_ns} } grep { $_->{order} == $order } @lines) } 1,
        2;
    cmp_ok($first, '>', $second, "$name: the first one takes over what accepting cost");
    my $account = $t->account_with('ports', $key, 2 * $connections);
    is($account->{requests}, 2 * $connections, "$name: they are counted");
    # The end of the connection is charged to the account too
    cmp_ok($account->{cpu_ns}, '>', sum(map { $_->{ns} } @lines), "$name: with all they cost");
}

sub wrapped {
    my ($socket) = @_;
    return bless { socket => $socket, buffer => '', timeout => 60 }, 'Test::RequestCpu::Connection';
}

check('TCP', $t->port('http') . ':listen.test', sub { $t->connect('http') });
check('deferred accept', $t->port('deferred') . ':listen.test', sub { $t->connect('deferred') });
check('a UNIX-domain socket', ':listen.test',
    sub { wrapped(IO::Socket::UNIX->new(Peer => $path) || die "connect: $!\n") });
check('PROXY protocol', $t->port('proxied') . ':listen.test', sub {
    my $connection = $t->connect('proxied');
    $connection->send("PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n");
    return $connection;
});
SKIP: {
    skip('no realip module', 1) unless $realip;
    is($t->account_with('clients', '192.0.2.7', 2 * $connections)->{requests}, 2 * $connections,
        'a key can be an address of the PROXY protocol');
}
SKIP: {
    skip('no IPv6 on this machine', 2 * $connections + 4) unless $ipv6;
    check('IPv6', $t->port('ipv6') . ':listen.test',
        sub { wrapped(IO::Socket::IP->new(PeerHost => '::1', PeerPort => $t->port('ipv6')) || die "connect: $!\n") });
}

# Two servers accept the connection, in the same entry of the worker's table: it is counted once.
sub pending { my ($name) = @_; $t->quiet; return sum(map { $_->{pending_ns} } @{ $t->status->{workers} }) }
for my $server (@passing) {
    my $connect = $server eq 'passed' ? sub { $t->connect($server) }
        : sub { Test::RequestCpu::TLS->new(port => $t->port($server)) };
    # NGINX sets the address of such a connection to that of the listening socket that it is passed to
    # (ngx_stream_pass_handler).
    check("a connection that a server of stream passes on ($server)", $t->port('http') . ":$server.test", $connect);
    my $used = $t->measured(sub {
        for (1 .. 100) {
            my $connection = $connect->();
            $connection->get('/a.txt', host => 'many.test');
            $connection->close;
        }
    });
    cmp_ok(pending(), '<', $used / 20, "$server: nothing of such connections stays pending when they are closed");
    next if $server eq 'passed_tls';
    # a connection that is closed before it sends a request is a connection without a request
    my $before = sum(map { $_->{no_request_ns} } @{ $t->status->{workers} });
    $used = $t->measured(sub { for (1 .. 100) { my $connection = $connect->(); $connection->close } });
    cmp_ok(pending(), '<', $used / 20, "$server: nor of those that send no request");
    cmp_ok(sum(map { $_->{no_request_ns} } @{ $t->status->{workers} }), '>', $before,
        "$server: which are connections without a request");
}

# A reload keeps the listening sockets, adds one and closes one
$t->reload(http => <<"EOC");
    request_cpu_zone \$server_port:\$host zone=ports:1m;
    request_cpu zone=ports;
    server {
        listen 127.0.0.1:{{port:http}};
        listen 127.0.0.1:{{port:added}};
        location / { }
    }
EOC
wait_until(60, sub { !$t->workers(old => 1) });
check('a socket that a reload adds', $t->port('added') . ':listen.test', sub { $t->connect('added') });
my $before = $t->account('ports', $t->port('http') . ':listen.test')->{requests};
$t->get('/a.txt', host => 'listen.test');
is($t->account_with('ports', $t->port('http') . ':listen.test', $before + 1)->{requests}, $before + 1,
    'and one that it takes over');
ok(!eval { $t->connect('proxied') }, 'one that it closes is closed');

$t->done;
