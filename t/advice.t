# A valid configuration with a mistake gives a warning; a correct one gives none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
$t->certificate(ecdsa => 'tls');

# The warnings for a configuration in http {}. HERE stands for the line that has the first "# here".
sub warnings_of {
    my ($http) = @_;
    unlink $t->dir . '/error.log';
    my ($status, $output) = $t->try_config(http => $http, status => 0);
    is($status, 0, 'the configuration is valid') or diag($output);
    my @lines = split /\n/, $t->slurp($t->dir . '/nginx.conf');
    my ($line) = grep { $lines[ $_ - 1 ] =~ /# here/ } 1 .. @lines;
    my %seen;
    return map { s/\Q${\ $t->dir}\E\/nginx\.conf:(\d+)/$1 == ($line || 0) ? 'HERE' : "line $1"/er }
        grep { !$seen{$_}++ } map { /\[warn\] (?:\d+#\d+: )?(.*)/ ? $1 : () }
        grep { !/"user" directive|could not build|conflicting/ } split /\n/, $output;
}

my $zone = 'request_cpu_zone $server_name zone=d:1m; request_cpu_zone $host zone=h:1m; request_cpu_zone a$server_name zone=c:1m;';
my $named = 'server { listen 127.0.0.1:{{port:a}}; server_name a.test; location / { } }';
my $no_name = qr/^no "server_name" is defined for the "server" in HERE: its requests are not counted in zone "d", whose key \$server_name is empty there; "server_name _;" gives them the key "_"$/;
for my $case (
    # servers without a name
    [ 'a catch-all server without a name',
        "request_cpu zone=d; $named server { # here\n listen 127.0.0.1:{{port:b}} default_server; return 444; }",
        $no_name ],
    [ 'the only server',
        "request_cpu zone=h zone=d; server { # here\n listen 127.0.0.1:{{port:b}}; location / { } location = /cpu { request_cpu_status; } }", $no_name ],
    [ 'a name that is empty',
        qq(request_cpu zone=d; server { # here\n listen 127.0.0.1:{{port:b}}; server_name ""; location / { } }),
        $no_name ],
    [ 'an empty name before others',
        qq(request_cpu zone=d; server { # here\n listen 127.0.0.1:{{port:b}}; server_name "" b.test; location / { } }),
        $no_name ],
    [ 'the key in braces',
        "request_cpu_zone \${server_name} zone=e:1m; server { # here\n listen 127.0.0.1:{{port:b}}; request_cpu zone=e; }", qr/in zone "e"/ ],
    [ 'counted in a location only',
        "server { # here\n listen 127.0.0.1:{{port:b}}; location / { location /a/ { request_cpu zone=d; } } }",
        $no_name ],
    [ 'in a location by a pattern',
        "server { # here\n listen 127.0.0.1:{{port:b}}; location ~ \\.php\$ { request_cpu zone=d; } }", $no_name ],
    [ 'in a named location',
        "server { # here\n listen 127.0.0.1:{{port:b}}; location / { try_files /x \@b; } location \@b { request_cpu zone=d; } }", $no_name ],
    [ 'two zones, one warning',
        "request_cpu_zone \$server_name zone=e:1m; request_cpu zone=e zone=d; server { # here\n listen 127.0.0.1:{{port:b}}; location / { } location /b/ { } }", qr/HERE.*in zone "e"/ ],
    [ 'off in the server, on in a location',
        "request_cpu zone=d; server { # here\n listen 127.0.0.1:{{port:b}}; request_cpu off; location / { request_cpu zone=d; } }", $no_name ],
    [ 'a name', "request_cpu zone=d; $named" ],
    [ 'the name _', "request_cpu zone=d; $named server { listen 127.0.0.1:{{port:b}} default_server; server_name _; return 444; }" ],
    [ 'names by patterns',
        "request_cpu zone=d; server { listen 127.0.0.1:{{port:b}}; server_name ~^(.+)\$; location / { } } server { listen 127.0.0.1:{{port:b}}; server_name .b.test; } server { listen 127.0.0.1:{{port:b}}; server_name *.c.test; }" ],
    [ 'another key', "request_cpu zone=h zone=c; server { listen 127.0.0.1:{{port:b}}; location / { } }" ],
    [ 'not counted in the server',
        "request_cpu zone=d; $named server { listen 127.0.0.1:{{port:b}}; request_cpu off; location / { } }" ],
    [ 'counted in another zone there',
        "request_cpu zone=d; $named server { listen 127.0.0.1:{{port:b}}; request_cpu zone=h; location / { } }" ],
    [ 'a zone that is not used', $named ],
    [ 'a server for the status only',
        "request_cpu zone=d; $named server { listen 127.0.0.1:{{port:b}}; location = /cpu { if (\$arg_x) { return 403; } request_cpu_status; allow 127.0.0.1; deny all; } }" ],
    [ 'of two servers, that without a name',
        "request_cpu zone=d; $named server { # here\n listen 127.0.0.1:{{port:b}}; location / { } }", $no_name ],
    # $http_host
    ($t->has('http_v3') ? map { my ($name, $key, $listen, $expected) = @$_;
        [ $name, "request_cpu_zone $key zone=hh:1m; request_cpu zone=hh; server { # here\n
        server_name a.test; listen 127.0.0.1:{{port:q}} $listen; ssl_protocols TLSv1.3;
            ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key; location / { } }", $expected ] }
        [ '$http_host with HTTP/3', '$http_host', 'quic',
            qr/^the key of zone "hh" in "request_cpu_zone" has \$http_host, which is empty in HTTP\/3 requests, and the "server" in HERE listens for these; use \$host$/ ],
        [ 'in a longer key', '"$scheme-${http_host}-$request_method"', 'quic', qr/zone "hh".*HTTP\/3/ ],
        [ '$host with HTTP/3', '$host', 'quic' ],
        [ 'a longer name with HTTP/3', '$http_hostname', 'quic' ],
        [ '$http_host without HTTP/3', '$http_host', 'ssl' ],
    : ()),
) {
    my ($name, $http, $expected) = @$case;
    my @warnings = warnings_of(($http =~ /zone=hh/ ? '' : $zone) . "\n$http");
    if ($expected) {
        is(scalar @warnings, 1, "$name: one warning") or diag(join "\n", @warnings);
        like($warnings[0] // '', $expected, "$name: that");
    } elsif (@$case > 2) {
        cmp_ok(scalar @warnings, '<=', 1, "$name: not more than one warning");
    } else {
        is_deeply(\@warnings, [], "$name: none");
    }
}
if ($t->has('http_v3')) {
    is_deeply([ warnings_of("request_cpu_zone \$http_host zone=hh:1m;
        request_cpu_zone \$host zone=h:1m; request_cpu zone=h;
        server { server_name a.test; listen 127.0.0.1:{{port:q}} quic; ssl_protocols TLSv1.3;
            ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key; }
        server { server_name b.test; listen 127.0.0.1:{{port:a}}; request_cpu zone=hh; }") ], [],
        '$http_host is not counted where HTTP/3 is: none');
}

# A status that everyone can read. The address is never opened: the configuration is only tested.
sub open_to {
    my ($address) = @_;
    return qr/^"request_cpu_status" is open to all clients of \Q$address\E: restrict its location with "allow" and "deny", or write "allow all" if that is intended, in HERE$/;
}
my $any = "0.0.0.0:{{port:s}}";
my $password = 'auth_basic "a"; auth_basic_user_file {{dir}}/users;';
sub status_in {
    my ($location, %part) = @_;
    my ($listen, $http, $server) = map { $part{$_} // '' } qw(listen http server);
    $listen ||= "listen $any;";
    return "$http server { server_name a.test; $listen $server location = /cpu { request_cpu_status; # here\n $location } }";
}
for my $case (
    [ 'nothing', status_in(''), 1 ],
    [ 'auth_basic off', status_in('auth_basic off;'), 1 ],
    [ 'auth_basic off below auth_basic', status_in('auth_basic off;', server => $password), 1 ],
    [ 'auth_basic without a file of users', status_in('auth_basic "a";'), 1 ],
    [ 'rules for UNIX sockets only', status_in('allow unix:;'), 1 ],
    [ 'rules in another server', status_in('', http => 'server { listen 127.0.0.1:{{port:a}}; deny all; }'), 1 ],
    [ 'rules in another location', status_in('', server => 'location / { deny all; }'), 1 ],
    [ 'rules for other methods', status_in('limit_except GET { deny all; }'), 1 ],
    [ 'an if in the location', status_in('if ($arg_x) { return 403; }'), 1 ],
    [ 'a nested location',
        "server { server_name a.test; listen $any; location / { location = /cpu { request_cpu_status; # here\n } } }", 1 ],
    [ 'IPv6', status_in('', listen => 'listen [::]:{{port:s}};'), '[::]:{{port:s}}' ],
    [ 'loopback and another address', status_in('', listen => "listen 127.0.0.1:{{port:a}}; listen $any;"), 1 ],
    [ 'allow and deny', status_in('allow 127.0.0.1; deny all;') ],
    [ 'allow all', status_in('allow all;') ],
    [ 'a rule for IPv6', status_in('deny ::/0;') ],
    [ 'deny in the server', status_in('', server => 'deny all;') ],
    [ 'deny in http', status_in('', http => 'deny all;') ],
    [ 'auth_basic', status_in($password) ],
    [ 'auth_basic in http', status_in('', http => $password) ],
    [ 'internal', status_in('internal;') ],
    [ 'a named location',
        "server { server_name a.test; listen $any; location / { try_files /x \@cpu; } location \@cpu { request_cpu_status; } }" ],
    [ 'loopback', status_in('',
        listen => 'listen 127.0.0.1:{{port:a}}; listen 127.1.2.3:{{port:a}}; listen [::1]:{{port:a}};') ],
    [ 'a UNIX socket', status_in('', listen => 'listen unix:{{dir}}/s.sock;') ],
    [ 'another server that is not on loopback', status_in('', listen => 'listen 127.0.0.1:{{port:a}};',
        http => "server { server_name b.test; listen $any; }") ],
    ($t->has('http_auth_request')
        ? ([ 'auth_request', status_in('auth_request /auth;') ],
            [ 'auth_request off', status_in('auth_request off;', server => 'auth_request /auth;'), 1 ]) : ()),
) {
    my ($name, $http, $expected) = @$case;
    my @warnings = warnings_of("$zone\n$http");
    is(scalar @warnings, $expected ? 1 : 0, "$name: " . ($expected ? 'one warning' : 'no warning'))
        or diag(join "\n", @warnings);
    my $address = $expected && $expected ne '1' ? $expected : $any;
    $address =~ s/\{\{port:s\}\}/$t->port('s')/e;
    like($warnings[0] // '', open_to($address), "$name: that") if $expected;
}
my @both = warnings_of("$zone server { server_name a.test; listen $any;
    location = /a { request_cpu_status; }
    location = /b { request_cpu_status; } }");
is(scalar @both, 2, 'one warning for each location');
is_deeply([ warnings_of('server { server_name a.test; listen 127.0.0.1:{{port:a}}; location = /cpu { request_cpu_status; # here'
    . "\n } }") ], [ '"request_cpu_status" shows no accounts: no "request_cpu_zone" is defined in HERE' ],
    'a status without a zone');

# The requests that the warnings are about, and their empty keys (the table at request_cpu_zone)
my $quic = $t->has('http_v3')
    ? "listen 127.0.0.1:{{port:h3}} quic; ssl_protocols TLSv1.3; ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key;" : '';
my @keys = qw(server_name host http_host remote_user cookie_a arg_a);
my $http2 = $t->has('http_v2');
$t->start(main => 'worker_processes 2;',
    http => join '', (map { "request_cpu_zone \$$_ zone=$_:1m; " } @keys), 'request_cpu ',
    join(' ', map { "zone=$_" } @keys), ";\n",
    "server { listen 127.0.0.1:{{port:http}} default_server; $quic location / { return 200 ok; } }\n",
    "server { listen 127.0.0.1:{{port:named}} default_server; server_name _; location / { return 200 ok; } }\n",
    $http2 ? "server { listen 127.0.0.1:{{port:h2}} default_server{{http2}}; {{http2_on}} server_name h2.test; location / { return 200 ok; } }\n" : '');
like($t->error_log, qr/\[warn\].* no "server_name" is defined.* in zone "server_name"/, 'a start warns too');
is(scalar(() = $t->error_log =~ /no "server_name" is defined/g), 1, 'once, not once for each worker');
sub raw {
    my ($port, $text) = @_;
    my $connection = $t->connect($port);
    $connection->send($text);
    return $connection->response->{status}
}
sub requests {
    my ($zone) = @_;
    my $keys = $t->status("zone=$zone")->{zones}{$zone}{keys};
    return { map { $_ => $keys->{$_}{requests} } grep { $keys->{$_}{requests} && $_ ne 'status.test' } keys %$keys }
}
is(raw('http', "GET / HTTP/1.0\r\n\r\n"), 200, 'a request without Host');
is(raw('http', "GET / HTTP/1.1\r\nHost: a.test:81\r\nConnection: close\r\n\r\n"), 200, 'one with');
is(raw('named', "GET / HTTP/1.0\r\n\r\n"), 200, 'without Host, to a server that is called _');
is(raw('named', "GET http://b.test/ HTTP/1.1\r\nHost: c.test\r\nConnection: close\r\n\r\n"), 200, 'with two names');
is_deeply(requests('server_name'), { _ => 2 }, '$server_name: those of the server with a name');
is_deeply(requests('host'), { 'a.test' => 1, _ => 1, 'b.test' => 1, '*' => 1 },
    '$host: where there is no Host, the name of the server, or the account *');
is_deeply(requests('http_host'), { 'a.test:81' => 1, 'c.test' => 1, '*' => 2 },
    '$http_host: the value of Host, with the port, or the account *');
is_deeply(requests($_), {}, "\$$_: nothing") for qw(remote_user cookie_a arg_a);
SKIP: {
    skip 'no curl with HTTP/2', 2 unless $http2 && `curl -V` =~ /\bHTTP2\b/;
    my ($status) = run_command('curl', '-s', '-o', '/dev/null', '--http2-prior-knowledge', '-H', 'Host: h2.test',
        'http://127.0.0.1:' . $t->port('h2') . '/');
    is($status, 0, 'a request by HTTP/2');
    is(requests('http_host')->{'h2.test'}, 1, '$http_host: the value of :authority');
}
SKIP: {
    my ($python) = grep { $_ && system("$_ -c 'import aioquic' >/dev/null 2>&1") == 0 } $ENV{TEST_PYTHON},
        "$FindBin::Bin/../target/python/bin/python3", 'python3';
    skip 'no HTTP/3 client', 3 unless $quic && $python;
    my ($status, $output) = run_command($python, "$FindBin::Bin/lib/h3_client.py", $t->port('h3'), 1, 'h3.test', '/');
    is($status, 0, 'a request by HTTP/3') or diag($output);
    is(requests('host')->{'h3.test'}, 1, '$host: the value of :authority');
    $t->skip_on_fork('advice: $http_host', 1);
    is(requests('http_host')->{'*'}, 3, '$http_host: the account *');
}

$t->done;
