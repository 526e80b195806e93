# TLS handshakes, new and resumed, are counted with their CPU in the account of the connection's first request.

use strict;
use warnings;

use FindBin;
use List::Util qw(min);
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('http_ssl', 'http_v2');
plan(skip_all => 'curl and openssl are needed')
    if grep { system("$_ version >/dev/null 2>&1 || $_ --version >/dev/null 2>&1") } qw(openssl curl);

my $dir = $t->dir;
$t->certificate($_, $_) for qw(rsa ecdsa);
$t->html('a.txt', "plain\n");
my ($http2_listen, $http2_on) = ($t->http2_listen, $t->http2_on);

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu_zone \$server_port zone=ports:1m;
    request_cpu zone=hosts zone=ports;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:1m;
    server {
        listen 127.0.0.1:{{port:rsa}} ssl$http2_listen;
        $http2_on
        ssl_certificate {{dir}}/rsa.pem; ssl_certificate_key {{dir}}/rsa.key;
        location / { }
    }
    server {
        listen 127.0.0.1:{{port:ecdsa}} ssl;
        ssl_certificate {{dir}}/ecdsa.pem; ssl_certificate_key {{dir}}/ecdsa.key;
        location / { }
    }
    server {
        # the connection's data is there when it is accepted, so the handshake begins in the wakeup of the socket
        listen 127.0.0.1:{{port:deferred}} ssl deferred;
        ssl_certificate {{dir}}/ecdsa.pem; ssl_certificate_key {{dir}}/ecdsa.key;
        location / { }
    }
    server {
        # a request can begin before the handshake is over
        listen 127.0.0.1:{{port:early}} ssl;
        ssl_protocols TLSv1.3;
        ssl_early_data on;
        ssl_certificate {{dir}}/rsa.pem; ssl_certificate_key {{dir}}/rsa.key;
        location / { add_header Early "\$ssl_early_data" always; }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
    }
EOC
$t->expect_log(qr/SSL_do_handshake\(\) failed/);

# Sends requests with curl, on one connection.
sub curl {
    my ($kind, $host, $uris, @option) = @_;
    my $port = $t->port($kind);
    my ($status, $output) = run_command('curl', '-sk', @option, '--resolve', "$host:$port:127.0.0.1",
        map { "https://$host:$port$_" } @$uris);
    die "curl failed ($status): $output\n" if $status;
}

# The minimum of the CPU that the requests took over from their connections: the handshake. Sums would not do: a busy
# machine makes some connections cost more, but none less than their work.
sub taken_over { return min(map { $_->{conn_ns} } @_) }

for my $case (
    [ 'HTTP/1.1, TLS 1.3', 'rsa', '--http1.1', '--tlsv1.3' ],
    [ 'HTTP/1.1, TLS 1.2', 'rsa', '--http1.1', '--tls-max', '1.2' ],
    [ 'HTTP/2', 'rsa', '--http2' ],
    [ 'a deferred accept', 'deferred', '--http1.1' ],
) {
    my ($name, $kind, @option) = @$case;
    (my $host = lc($name)) =~ s/\W+/-/g;
    $host .= '.test';
    $t->clear_log;
    curl($kind, $host, [ ('/a.txt') x 3 ], @option) for 1 .. 8;
    my @lines = $t->logged(24);
    my $account = $t->account_with('hosts', $host, 24);
    my $handshakes = $account->{tls_handshakes};
    is($handshakes->{new}{handshakes}, 8, "$name: a handshake for each connection, whatever its requests");
    is($handshakes->{resumed}, undef, "$name: none resumed");
    my @first = grep { $_->{order} == 1 } @lines;
    cmp_ok($handshakes->{new}{cpu_ns}, '<=', sum(map { $_->{ns} } @first),
        "$name: its CPU is part of the first requests'");
    within($handshakes->{new}{cpu_ns}, sum(map { $_->{conn_ns} } @first), 0.5, 1,
        "$name: and most of what they took over from the connection");
    cmp_ok(taken_over(@first), '>', 3 * min(map { $_->{ns} } grep { $_->{order} > 1 } @lines), "$name: it is dear");
}

# The key of the certificate
my $with_ecdsa = 0;
my @least = least(sub { $_[0] < $_[1] }, map {
    my $kind = $_;
    sub {
        $t->clear_log;
        curl($kind, "$kind.test", ['/a.txt'], '--http1.1', '--tlsv1.3') for 1 .. 3;
        $with_ecdsa += 3 if $kind eq 'ecdsa';
        return taken_over($t->logged(3));
    };
} 'ecdsa', 'rsa');
cmp_ok($least[0], '<', $least[1], 'a handshake with an ECDSA key costs less than one with an RSA key');
my $ecdsa = $t->account_with('hosts', 'ecdsa.test', $with_ecdsa)->{tls_handshakes}{new};

# Resumed sessions
my $port = $t->port('rsa');
for my $version ('-tls1_2', '-tls1_3') {
    my $host = "resumed$version.test";
    my $session = "$dir/session$version";
    my $request = "GET /a.txt HTTP/1.1\\r\\nHost: $host\\r\\nConnection: close\\r\\n\\r\\n";
    $t->clear_log;
    # new and resumed in turn, and more of them on a slow machine: the minimum of each comes closer to the true cost
    my ($pairs, @new, @resumed) = (0);
    until ($pairs >= 5 && 1.3 * taken_over(@resumed) < taken_over(@new) || $pairs == 100) {
        for my $option ("-sess_out $session", "-sess_in $session") {
            my $command = "printf '$request' | openssl s_client -connect 127.0.0.1:$port -quiet -ign_eof $version $option";
            my ($status, $output) = run_command('sh', '-c', $command);
            like($output, qr/plain/, "$version $option: an answer") or diag($output);
        }
        $pairs++;
        my @lines = $t->logged(2 * $pairs);
        push @new, $lines[-2];
        push @resumed, $lines[-1];
    }
    note("$version: $pairs pairs");
    my $handshakes = $t->account_with('hosts', $host, 2 * $pairs)->{tls_handshakes};
    is($handshakes->{new}{handshakes}, $pairs, "$version: each full handshake");
    is($handshakes->{resumed}{handshakes}, $pairs, "$version: and each that resumed a session");
    within($handshakes->{new}{cpu_ns}, sum(map { $_->{conn_ns} } @new), 0.5, 1,
        "$version: with what full ones took over");
    within($handshakes->{resumed}{cpu_ns}, sum(map { $_->{conn_ns} } @resumed), 0.3, 1,
        "$version: and what the others did");
    cmp_ok(1.3 * taken_over(@resumed), '<', taken_over(@new), "$version: which cost less");
}

{
    my ($early, $session) = ($t->port('early'), "$dir/early");
    $t->write_file("$dir/early.txt", "GET /a.txt HTTP/1.1\r\nHost: early.test\r\nConnection: close\r\n\r\n");
    my $client = "openssl s_client -connect 127.0.0.1:$early -quiet -ign_eof -tls1_3";
    my (@new, @resumed);
    # the variable is "1" if the handshake is not over yet, so the client's last message must come later than the
    # request
    my ($tries, $output, $account, $was) = (0, '', {}, {});
    until ($output =~ /^Early: 1\r$/m && $tries >= 5 && min(@resumed) < min(@new) || $tries == 60) {
        run_command('sh', '-c', "$client -sess_out $session < $dir/early.txt");
        (undef, $output) = run_command('sh', '-c', "$client -sess_in $session -early_data $dir/early.txt < /dev/null");
        $tries++;
        $account = $t->account_with('hosts', 'early.test', 2 * $tries);
        my $is = $account->{tls_handshakes};
        push @new, $is->{new}{cpu_ns} - ($was->{new}{cpu_ns} || 0);
        push @resumed, $is->{resumed}{cpu_ns} - ($was->{resumed}{cpu_ns} || 0);
        $was = $is;
    }
    like($output, qr/^Early: 1\r$/m, 'a request in early data') or diag($output);
    is("$was->{new}{handshakes} $was->{resumed}{handshakes}", "$tries $tries", 'counts a handshake too');
    cmp_ok(min(@resumed), '<', min(@new), 'that cost less');
    cmp_ok(min(@resumed), '>', 0, 'but something');
    cmp_ok($was->{new}{cpu_ns} + $was->{resumed}{cpu_ns}, '<=', $account->{by_connection_order}{1}{cpu_ns},
        'which is part of first requests');
}

# Requests without a handshake
$t->get('/a.txt', port => 'http', host => 'plain.test') for 1 .. 3;
is($t->account_with('hosts', 'plain.test', 3)->{tls_handshakes}, undef, 'a plain connection has none');
is($t->get('/a.txt', port => 'rsa', host => 'plain-on-tls.test')->{status}, 400, 'HTTP where TLS is spoken is refused');
is($t->account_with('hosts', 'plain-on-tls.test', 1)->{tls_handshakes}, undef, 'and is none either');
my $before = $t->account('ports', $port)->{tls_handshakes}{new}{handshakes};
for (1 .. 5) {
    my $connection = $t->connect('rsa');
    $connection->send("\x16\x03\x01" . 'garbage' x 10);
    $connection->closed_within(30);
    $connection->close;
}
curl('rsa', 'after.test', ['/a.txt']);
$t->account_with('hosts', 'after.test', 1);
is($t->account('ports', $port)->{tls_handshakes}{new}{handshakes}, $before + 1, 'handshakes that fail are not counted');

# All zones of the request, and both formats
my $sum = sum(map { $_->{tls_handshakes}{new}{handshakes} // 0 } values %{ $t->status->{zones}{hosts}{keys} });
is(sum(map { $_->{tls_handshakes}{new}{handshakes} // 0 } values %{ $t->status->{zones}{ports}{keys} }), $sum,
    'each zone counts them all');
my ($samples) = $t->prometheus;
sub sample {
    my ($name) = @_;
    map { $_->[2] } grep { $_->[0] eq "nginx_request_cpu_$name" && $_->[1]{key} eq 'ecdsa.test'
        && $_->[1]{session} eq 'new' } @$samples;
}
is_deeply([ sample('tls_handshakes_total') ], [$with_ecdsa], 'Prometheus has the count');
within((sample('tls_handshake_seconds_total'))[0] * 1e9, $ecdsa->{cpu_ns}, 0.999999, 1.000001, 'and the CPU');

# A reload
$t->reload;
is($t->account('hosts', 'ecdsa.test')->{tls_handshakes}{new}{handshakes}, $with_ecdsa, 'a reload keeps them');

$t->done;
