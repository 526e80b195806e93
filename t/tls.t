# The handshake is charged to the first request of its connection.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(min);
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('http_ssl');
plan(skip_all => 'curl and openssl are needed')
    if grep { system("$_ version >/dev/null 2>&1 || $_ --version >/dev/null 2>&1") } qw(openssl curl);

my $dir = $t->dir;
$t->certificate($_, $_) for qw(rsa ecdsa);
$t->html('a.txt', "plain\n");

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    ssl_session_cache shared:tls:1m;
    server {
        listen 127.0.0.1:{{port:rsa}} ssl;
        ssl_certificate {{dir}}/rsa.pem; ssl_certificate_key {{dir}}/rsa.key;
        location / { }
    }
    server {
        listen 127.0.0.1:{{port:ecdsa}} ssl;
        ssl_certificate {{dir}}/ecdsa.pem; ssl_certificate_key {{dir}}/ecdsa.key;
        location / { }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location /behind/ { proxy_pass https://127.0.0.1:{{port:rsa}}/; proxy_set_header Host behind.test;
            proxy_ssl_session_reuse off; }
        location /plain/ { proxy_pass http://127.0.0.1:{{port:http}}/; proxy_set_header Host behind.test; }
    }
EOC
$t->expect_log(qr/SSL_do_handshake\(\) failed/);

sub curl {
    my ($kind, $host, @uris) = @_;
    my $port = $t->port($kind);
    my ($status, $output) = run_command('curl', '-sk', '--http1.1', '--resolve', "$host:$port:127.0.0.1",
        map { "https://$host:$port$_" } @uris);
    die "curl failed ($status): $output\n" if $status;
    return $output;
}

# Twelve connections with three requests each
my ($used, $work) = $t->worked(sub {
    for (1 .. 12) {
        is(curl('rsa', 'rsa.test', '/a.txt', '/a.txt', '/a.txt'), "plain\n" x 3, 'three requests over TLS');
    }
    $t->logged(36);
});
my @lines = $t->logged(36);
my %by = map { my $order = $_; $order => [ grep { $_->{order} == $order } @lines ] } 1 .. 3;
is_deeply([ map { scalar @{ $by{$_} } } 1 .. 3 ], [ 12, 12, 12 ], 'share one connection');
# the minimum of several: a busy machine makes some requests cost more, but none less than its work
my ($first, $second, $third) = map { min(map { $_->{ns} } @{ $by{$_} }) } 1 .. 3;
cmp_ok($first, '>', 3 * $second, 'the first request of a connection pays the handshake');
cmp_ok($first, '>', 3 * $third, 'and later ones do not');
within(sum(map { $_->{conn_ns} } @{ $by{1} }), sum(map { $_->{ns} } @{ $by{1} }), 0.6, 1,
    'the handshake is in $request_cpu_connection_ns');
cmp_ok(min(map { $_->{conn_ns} } @{ $by{2} }) * 5, '<', min(map { $_->{conn_ns} } @{ $by{1} }),
    'which is small for the second request');
my $charged = sum(map { $_->{ns} } @lines);
cmp_ok($charged, '<=', $used, 'the requests are charged no more than the thread used');
within($charged, $work, 0.8, 1.1, 'and most of its work');

my $account = $t->account_with('hosts', 'rsa.test', 36);
my $order = $account->{by_connection_order};
cmp_ok($order->{1}{cpu_ns} / $order->{1}{requests}, '>', 3 * $order->{2}{cpu_ns} / $order->{2}{requests},
    'the account shows it by order');

# The CPU, in the log, of a request that a function sends.
sub cost {
    my ($code) = @_;
    $t->clear_log;
    $code->();
    return ($t->logged(1))[0]{ns};
}

# The kind of the key changes the cost
my ($ecdsa, $rsa) = least(sub { $_[0] < $_[1] },
    map { my $kind = $_; sub { cost(sub { curl($kind, "$kind.test", '/a.txt') }) } } 'ecdsa', 'rsa');
cmp_ok($ecdsa, '<', $rsa, 'a handshake with an ECDSA key costs less than one with an RSA key');

# A resumed session needs no signature
my $port = $t->port('rsa');
my $session = "$dir/session";
sub s_client {
    my (@option) = @_;
    my $request = "GET /a.txt HTTP/1.1\\r\\nHost: reuse.test\\r\\nConnection: close\\r\\n\\r\\n";
    my ($status, $output) = run_command('sh', '-c',
        "printf '$request' | openssl s_client -connect 127.0.0.1:$port -quiet -ign_eof -tls1_2 @option");
    $output =~ /plain/ or die "no answer: $output\n";
}
s_client('-sess_out', $session);
my ($reused, $new) = least(sub { $_[0] * 1.5 < $_[1] },
    map { my @option = @$_; sub { cost(sub { s_client(@option) }) } } [ '-sess_in', $session ],
    [ '-sess_out', $session ]);
cmp_ok($reused * 1.5, '<', $new, 'a reused session costs less than a new one');

# TLS to an upstream is charged to the request that uses the upstream
my ($behind, $plain) = least(sub { $_[0] > 1.5 * $_[1] }, map {
    my $uri = "/$_/a.txt";
    sub {
        $t->clear_log;
        $t->get($uri, host => 'front.test')->{status} == 200 or die "no answer\n";
        my ($front) = grep { $_->{uri} eq $uri } $t->logged(2);
        return $front->{ns};
    };
} qw(behind plain));
cmp_ok($behind, '>', 1.5 * $plain, 'a request pays for the handshake with its upstream');

# Connections that never have a request
sub no_request { $t->quiet; sum(map { $_->{no_request_ns} } @{ $t->status->{workers} }) }

my $before = no_request();
for (1 .. 20) {
    my $connection = $t->connect('rsa');
    $connection->send("\x16\x03\x01" . 'garbage' x 10);
    $connection->closed_within(30);
    $connection->close;
}
my $failed = no_request();
cmp_ok($failed, '>', $before, 'failed handshakes go to connections without a request');

my (undef, $done) = $t->worked(sub {
    run_command('openssl', 's_client', '-connect', "127.0.0.1:$port", '-no_ticket') for 1 .. 10;
});
wait_until(60, sub { no_request() - $failed > $done / 2 });
my $scanned = no_request();
within($scanned - $failed, $done, 0.7, 1.2, 'so do handshakes that are followed by nothing');
cmp_ok($scanned - $failed, '>', $failed - $before, 'which cost more than those that fail at once');

for (1 .. 50) { my $connection = $t->connect('http'); $connection->close }
wait_until(60, sub { no_request() > $scanned });
cmp_ok(no_request(), '>', $scanned, 'so does a port scan on a plain port');

# HTTP on a TLS port gets an answer, and is a request
$t->clear_log;
is($t->get('/a.txt', port => 'rsa', host => 'plain.test')->{status}, 400, 'plain HTTP on a TLS port is refused');
my ($line) = $t->logged(1);
like($line->{ns}, qr/^[1-9]\d*$/, 'and charged');

$t->done;
