# Requests that are redirected internally, and requests that end early.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new;
my $ssl = $t->has('http_ssl') && system('openssl version >/dev/null 2>&1') == 0;
my $dir = $t->dir;
if ($ssl) {
    run_command('openssl', 'req', '-x509', '-nodes', '-newkey', 'rsa:2048', '-days', 2, '-subj', '/CN=a.test',
        '-keyout', "$dir/a.key", '-out', "$dir/a.pem");
}
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    if ($request->{uri} =~ /slow/) { sleep 3 }
    return $connection->answer("redirect\n", headers => { 'X-Accel-Redirect' => '/internal/page.txt' })
        if $request->{uri} =~ /accel/;
    return $connection->answer("gone\n", status => '404 Not Found') if $request->{uri} =~ /gone/;
    return $connection->answer("answer\n");
});
$t->html('page.txt', "page\n");
$t->html('internal/page.txt', "page\n");

my $burn = 'set $args x=' . burn_text(20) . '; ' . burn_rules(1);
my $ssl_conf = $ssl ? <<'EOC' : '';
    server {
        listen 127.0.0.1:{{port:tls}} ssl;
        server_name tls.test;
        ssl_certificate {{dir}}/a.pem; ssl_certificate_key {{dir}}/a.key;
        location / { }
    }
EOC

$t->start(http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    client_header_timeout 1s;
    client_body_timeout 1s;
    large_client_header_buffers 2 1k;
    recursive_error_pages on;
    server {
        listen 127.0.0.1:{{port:http}} default_server;
        server_name way.test;
        location / { }
        location = /burn { $burn return 200 "x"; }
        # Each of these burns first, and then goes on elsewhere: the module's context of the request is cleared there.
        location = /named { $burn error_page 418 = \@named; return 418; }
        location \@named { return 200 "named\\n"; }
        location = /named_proxy { $burn error_page 418 = \@proxy; return 418; }
        location \@proxy { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /page { $burn error_page 500 = /page.txt; return 500; }
        location = /chain { $burn error_page 500 = /chain2; return 500; }
        location = /chain2 { error_page 403 = /chain3; deny all; }
        location = /chain3 { try_files /none /none2 \@named; }
        location = /rewritten { $burn rewrite ^ /page.txt last; }
        location = /try { $burn try_files /none \@named; }
        location = /accel { $burn proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /intercept { $burn set \$gone /gone; proxy_pass http://127.0.0.1:{{port:upstream}}\$gone;
            proxy_intercept_errors on; error_page 404 \@named; }
        location = /closed { return 444; }
        location = /loop { rewrite ^ /loop last; }
        location /internal/ { internal; }
        location /slow { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /small { client_max_body_size 10; proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
    server {
        listen 127.0.0.1:{{port:odd}};
        server_name odd.test;
        location / { }
        location /slow { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location /body { proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
    server {
        listen 127.0.0.1:{{port:large}};
        server_name large.test;
        # NGINX's own code for it goes out as 400 unless it is told otherwise
        error_page 494 =431 /large;
        location = /large { return 431 "large\n"; }
    }
$ssl_conf
EOC

# Nearly all of the worker's work is for this request. So the request must be charged nearly all CPU of the worker's
# thread.
my %way = (
    '/burn' => 'no other way', '/named' => 'a named location', '/named_proxy' => 'a proxy in a named location',
        '/page' => 'an error page',
    '/chain' => 'three of them in a row', '/rewritten' => 'a rewrite', '/try' => 'try_files',
    '/accel' => 'X-Accel-Redirect',
    '/intercept' => 'an intercepted error of an upstream',
);
my $requests = keys %way;
for my $uri (sort keys %way) {
    my ($charged, $used) = $t->charged_and_used(1, sub { $t->get($uri) });
    within($charged, $used, 0.7, 1, "$way{$uri}: what was spent before is not forgotten");
}
my $account = $t->account_with('domains', 'way.test', $requests);
is($account->{requests}, $requests, 'a request that is redirected is one request');
is($account->{in_flight}, 0, 'and is not in flight when it is done');

# Requests that end early. Each must be logged, charged, and counted in its class.
my @short = (
    [ 'not a request at all', 400, sub { my $c = $_[0]; $c->send("nonsense\r\n\r\n") } ],
    [ 'HTTP/1.1 without a host', 400, sub { $_[0]->send("GET / HTTP/1.1\r\n\r\n") } ],
    [ 'a bad host', 400, sub { $_[0]->send("GET / HTTP/1.1\r\nHost: a/b c\r\n\r\n") } ],
    [ 'a request line that is too long', 414,
        sub { $_[0]->send('GET /' . 'x' x 3000 . " HTTP/1.1\r\nHost: odd.test\r\n\r\n") } ],
    [ 'a header that is too large', 400,
        sub { $_[0]->send("GET / HTTP/1.1\r\nHost: odd.test\r\nX: " . 'x' x 3000 . "\r\n\r\n") } ],
    [ 'a header that does not come', 408, sub { $_[0]->send("GET / HTTP/1.1\r\nHost: odd.test\r\nX") } ],
    [ 'a body that does not come', 408,
        sub { $_[0]->send("POST /body HTTP/1.1\r\nHost: odd.test\r\nContent-Length: 10\r\n\r\nx") } ],
    [ 'an unknown method', 405,
        sub { $_[0]->send("BREW /none HTTP/1.1\r\nHost: odd.test\r\nConnection: close\r\n\r\n") } ],
    [ 'a version from the future', 505, sub { $_[0]->send("GET / HTTP/7.1\r\nHost: odd.test\r\n\r\n") } ],
    [ 'a client that closes before the answer', 499,
        sub { $_[0]->send("GET /slow HTTP/1.1\r\nHost: odd.test\r\n\r\n"); sleep 0.2; $_[0]->close } ],
    [ 'a client that closes within the header', 400,
        sub { $_[0]->send("GET / HTTP/1.1\r\nHost: odd.te"); sleep 0.1; $_[0]->close } ],
    [ 'a client that resets within the header', 400,
        sub { $_[0]->send("GET / HTTP/1.1\r\nHost: odd.te"); sleep 0.1; $_[0]->reset } ],
);
my %class;
for my $case (@short) {
    my ($name, $status, $send) = @$case;
    my ($charged, $used) = $t->charged_and_used(1, sub {
        my $connection = $t->connect('odd');
        $send->($connection);
        if ($connection->socket) { $connection->closed_within(30) or $connection->response; $connection->close }
    });
    my ($line) = $t->log_lines;
    is($line->{status}, $status, "$name: is logged with $status");
    like($line->{ns}, qr/^[1-9]\d*$/, "$name: and charged");
    cmp_ok($charged, '<=', $used, "$name: for its work only");
    $class{ substr($line->{status}, 0, 1) . 'xx' }++;
}
my $odd = $t->account_with('domains', 'odd.test', scalar @short);
is($odd->{requests}, scalar @short, 'each of them is counted');
is_deeply($odd->{responses}, { map { $_ => $class{$_} || 0 } qw(1xx 2xx 3xx 4xx 5xx) }, 'in its class');
is($odd->{in_flight}, 0, 'none of them is in flight any more');

# Requests whose status has no class
$t->clear_log;
my $before = $t->account('domains', 'way.test')->{requests};
my $connection = $t->connect('http');
$connection->request('/closed');
is($connection->response->{status}, 0, 'return 444 answers nothing');
is($t->get('/loop')->{status}, 500, 'a rewrite loop is an error');
is($t->get('/small', method => 'POST', body => 'x' x 100)->{status}, 413, 'a body can be too large');
my @lines = $t->logged(3);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 3, 'all are charged');
is($t->account_with('domains', 'way.test', $before + 3)->{requests}, $before + 3, 'and counted');

$t->clear_log;
is($t->get('/', port => 'large', headers => { 'X-Large' => 'x' x 3000 })->{status}, 431,
    'a header that is too large, with an answer of its own');
@lines = $t->logged(1);
like($lines[0]{ns}, qr/^[1-9]\d*$/, 'is charged');
is($t->account_with('domains', 'large.test', 1)->{responses}{'4xx'}, 1, 'and counted');

SKIP: {
    skip('no TLS', 3) unless $ssl;
    $t->clear_log;
    is($t->get('/', port => 'tls', host => 'tls.test')->{status}, 400, 'plain HTTP on a TLS port is refused');
    my ($line) = $t->logged(1);
    like($line->{ns}, qr/^[1-9]\d*$/, 'and charged');
    is($t->account_with('domains', 'tls.test', 1)->{responses}{'4xx'}, 1, 'and counted');
}

$t->done;
