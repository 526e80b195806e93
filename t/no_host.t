# Requests without a Host, to a server without a name. With the key $host or $http_host they are counted, and limited,
# in the overflow account. Requests with other empty keys are not counted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;

my $t = Test::RequestCpu->new;
my ($http2, $http3) = map { $t->has($_) } 'http_v2', 'http_v3';
my ($python) = grep { $_ && system("$_ -c 'import aioquic' >/dev/null 2>&1") == 0 } $ENV{TEST_PYTHON},
    "$FindBin::Bin/../target/python/bin/python3", 'python3';
$http3 &&= $python && $t->has('http_ssl');
$t->certificate(rsa => 'h3') if $http3;

my %key = (host => '$host', braces => '${host}', capitals => '$HOST', http_host => '$http_host',
    mixed => '"$host$arg_a"', arg => '$arg_a', small => '$host');
my %size = (small => '32k');
my $zones = join '', map { "request_cpu_zone $key{$_} zone=$_:" . ($size{$_} || '1m') . ";\n" } sort keys %key;
my $all = join ' ', map { "zone=$_" } sort keys %key;
$t->start(http => <<"EOC");
    $zones
    request_cpu $all;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 200 "x"; }
        location = /burn {
            request_cpu_limit zone=host cores=0.001 burst=1ms;
            request_cpu_limit_log_level warn;
            @{[ burn_rules(3) ]}
            empty_gif;
        }
    }
    @{[ $http2 ? 'server { listen 127.0.0.1:{{port:h2}}{{http2}}; {{http2_on}} request_cpu zone=braces zone=http_host; location / { return 200 "x"; } }' : '' ]}
    @{[ $http3 ? 'server { listen 127.0.0.1:{{port:h3}} quic; ssl_protocols TLSv1.3; ssl_certificate {{dir}}/h3.pem; ssl_certificate_key {{dir}}/h3.key; request_cpu zone=capitals; location / { return 200 "x"; } }' : '' ]}
EOC

sub zone { my ($zone) = @_; return $t->status("zone=$zone")->{zones}{$zone} }
sub requests {
    my ($zone) = @_;
    my $keys = zone($zone)->{keys};
    return { map { $_ => $keys->{$_}{requests} } grep { $keys->{$_}{requests} } keys %$keys }
}
sub raw {
    my ($port, $text) = @_;
    my $connection = $t->connect($port);
    $connection->send($text);
    my $answer = $connection->response;
    return $answer && $answer->{status}
}

is(raw('http', "GET / HTTP/1.0\r\n\r\n"), 200, 'a request by HTTP/1.0 without Host') for 1 .. 3;
is(raw('http', "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"), 200, 'one with it');
is(raw('http', "GET / HTTP/1.1\r\n\r\n"), 400, 'one by HTTP/1.1 without Host is refused by NGINX');
is(raw('http', "GET / HTTP/1.1\r\nHost: a b/c\r\n\r\n"), 400, 'and one with a wrong one');
is(raw('http', "garbage\r\n\r\n"), 400, 'and text that is no request');
wait_until(60, sub { sum(values %{ requests('host') }) == 7 });
is_deeply(requests($_), { 'a.test' => 1, '*' => 6 }, "$key{$_}: each is counted, those without a value in *")
    for qw(host braces capitals small);
is_deeply(requests('http_host'), { 'a.test' => 1, 'a b/c' => 1, '*' => 5 }, '$http_host: the same');
is_deeply(requests('mixed'), { 'a.test' => 1 }, '"$host$arg_a": an empty key of more than that is not counted');
is_deeply(requests('arg'), {}, '$arg_a: nor is another variable');
is(zone($_)->{overflowed}, 0, "$key{$_}: no key overflows") for sort keys %key;

# The limit. Each of these takes some milliseconds.
my %got;
$got{ raw('http', "GET /burn?x=@{[ burn_text() ]} HTTP/1.0\r\n\r\n") }++ for 1 .. 10;
is($got{200} || 0, 1, 'a limit admits one expensive request without Host') or diag(explain(\%got));
is($got{429} || 0, 9, 'and refuses those after it');
like($t->error_log, qr/limiting requests by CPU, debt: [\d.]+ s, zone "host", key "\*"/,
    'and the error log names the account');
is(raw('http', "GET /burn?x=@{[ burn_text() ]} HTTP/1.0\r\nHost: b.test\r\n\r\n"), 200,
    'a request with a Host has an account of its own');

SKIP: {
    skip('no HTTP/2', 3) unless $http2;
    my ($before, $before_http) = map { requests($_)->{'*'} } 'braces', 'http_host';
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    my $block = join '', map { Test::RequestCpu::HTTP2::field(@$_) } [ ':method', 'GET' ], [ ':scheme', 'http' ],
        [ ':path', '/' ];
    $client->send($client->preface, Test::RequestCpu::HTTP2::frame('headers', 0x5, 1, $block));
    ok(wait_until(60, sub { requests('braces')->{'*'} == $before + 1 }), 'HTTP/2 without :authority: counted in *');
    is(requests('http_host')->{'*'}, $before_http + 1, '$http_host: too');
    # an index that no table of header fields has
    my $other = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    $other->send($other->preface, Test::RequestCpu::HTTP2::frame('headers', 0x5, 1, "\xff\xff\xff\x00"));
    ok(wait_until(60, sub { requests('braces')->{'*'} == $before + 2 }), 'HEADERS that cannot be read: counted in *')
        or diag(explain(requests('braces')));
}
SKIP: {
    skip('no HTTP/3', 1) unless $http3;
    my $before = requests('capitals')->{'*'};
    run_command($python, "$FindBin::Bin/lib/h3_client.py", $t->port('h3'), 1, '', '/');
    ok(wait_until(60, sub { requests('capitals')->{'*'} == $before + 1 }), 'HTTP/3 without :authority: counted in *')
        or diag(explain(requests('capitals')));
}

# Requests with the key "*", and those without room in the zone, are counted there too.
is(raw('http', "GET / HTTP/1.0\r\nHost: host-$_.test\r\n\r\n"), 200, "host $_") for 1 .. 20;
my $small = zone('small');
cmp_ok($small->{overflowed}, '>', 0, 'in a full zone, keys overflow');
my $before = $small->{keys}{'*'}{requests};
raw('http', "GET / HTTP/1.0\r\n\r\n") for 1 .. 5;
wait_until(60, sub { zone('small')->{keys}{'*'}{requests} == $before + 5 });
is(zone('small')->{overflowed}, $small->{overflowed}, 'requests without a Host are not among these');

$t->done;
