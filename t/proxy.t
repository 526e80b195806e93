# Requests that an upstream answers, and requests that the cache answers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('proxy');
my $large = words(200_000);
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    return $connection->answer($large) if $request->{uri} =~ /large/;
    return $connection->answer('received ' . length $request->{body}) if $request->{method} eq 'POST';
    if ($request->{uri} =~ /chunked/) {
        $connection->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (1 .. 5) { $connection->send("6\r\nchunk\n\r\n"); sleep 0.01 }
        return $connection->send("0\r\n\r\n");
    }
    if ($request->{uri} =~ /broken/) {
        $connection->send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
        return 0;
    }
    if ($request->{uri} =~ /never/) { sleep 20; return 0 }
    if ($request->{uri} =~ /refuse/) { return $connection->answer("no\n", status => '503 Busy') }
    return $connection->answer("answer\n", headers => { 'X-Nth' => $request->{nth} });
});

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    proxy_cache_path {{dir}}/cache keys_zone=cache:1m;
    upstream alive { server 127.0.0.1:{{port:upstream}}; keepalive 4; }
    upstream twice { server 127.0.0.1:{{port:dead}} max_fails=0; server 127.0.0.1:{{port:upstream}} max_fails=0; }
    server {
        listen 127.0.0.1:{{port:http}};
        location / { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location /alive/ { proxy_pass http://alive; proxy_http_version 1.1; proxy_set_header Connection ""; gzip on;
            gzip_types *; gzip_comp_level 9; gzip_proxied any; }
        location /unbuffered/ { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_buffering off; }
        location /dead { proxy_pass http://127.0.0.1:{{port:dead}}; }
        location /twice { proxy_pass http://twice; }
        location /never { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_read_timeout 300ms; }
        location /cached/ { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_cache cache;
            proxy_cache_valid 200 1h; proxy_cache_bypass \$arg_bypass; }
        location /self { proxy_pass http://127.0.0.1:{{port:http}}/alive/x; proxy_set_header Host inner.test; }
    }
EOC

# With and without keep-alive connections to the upstream
for my $kind ([ 'fresh upstream connections', '/fresh/x', 'fresh.test' ],
    [ 'upstream keepalive', '/alive/x', 'alive.test' ],
    [ 'no buffering', '/unbuffered/x', 'unbuffered.test' ])
{
    my ($name, $uri, $host) = @$kind;
    $t->clear_log;
    my $nth = 0;
    my ($used, $work) = $t->worked(sub {
        my $connection = $t->connect('http');
        for (1 .. 30) {
            my $answer = $connection->get($uri, host => $host);
            $nth = $answer->{headers}{'x-nth'} if $answer->{headers}{'x-nth'} > $nth;
        }
        $connection->close;
        $t->logged(30);
    });
    my @lines = $t->log_lines;
    $name =~ /keepalive/ ? cmp_ok($nth, '>', 20, "$name: upstream connections are kept")
        : is($nth, 1, "$name: they are not kept");
    is(scalar(grep { $_->{status} == 200 && $_->{ns} =~ /^[1-9]\d*$/ } @lines), 30, "$name: every request is charged");
    is(scalar(grep { $_->{wakeups} >= 2 } @lines), 30,
        "$name: the client's wakeup and the upstream's are both counted");
    my $account = $t->account_with('hosts', $host, 30);
    is($account->{requests}, 30, "$name: requests are counted");
    my $logged = sum(map { $_->{ns} } @lines);
    cmp_ok($logged, '<=', $used, "$name: together they are charged no more than the thread used");
    within($account->{cpu_ns}, $work, 0.85, 1.1, "$name: and the account has what the worker did");
    cmp_ok($account->{cpu_ns}, '<=', $used, "$name: which is no more than the thread used");
    is($account->{by_cache_status}{NONE}{requests}, 30, "$name: no cache took part");
}

# One keep-alive upstream connection serves two domains in turn: reading from it is charged to the domain of the
# request
$t->clear_log;
my $connection = $t->connect('http');
for (1 .. 10) {
    $connection->get('/alive/large', host => 'heavy.test', headers => { 'Accept-Encoding' => 'gzip' });
    $connection->get('/alive/x', host => 'light.test');
}
$connection->close;
my @lines = $t->logged(20);
my ($heavy, $light) = map { my $host = $_;
    median(map { $_->{ns} } grep { $_->{host} eq $host } @lines) } qw(heavy.test light.test);
cmp_ok($heavy, '>', 10 * $light, 'on a kept upstream connection each domain pays for its own answers');
my ($heavy_account, $light_account) = map { $t->account_with('hosts', $_, 10) } qw(heavy.test light.test);
cmp_ok($heavy_account->{cpu_ns}, '>', 8 * $light_account->{cpu_ns}, 'and the accounts show it');

# Both ends in the same worker
$t->clear_log;
$t->get('/self', host => 'outer.test') for 1 .. 10;
@lines = $t->logged(20);
is($t->account_with('hosts', $_, 10)->{requests}, 10, "a proxy to itself: $_ has its requests")
    for qw(outer.test inner.test);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 20, 'and both ends are charged');

# Answers of several kinds
$t->clear_log;
is($t->get('/x', method => 'POST', body => 'x' x 1_000_000, host => 'kinds.test')->{status}, 200,
    'a body is forwarded');
is($t->get('/chunked', host => 'kinds.test')->{body}, "chunk\n" x 5, 'chunks are forwarded');
is($t->get('/refuse', host => 'kinds.test')->{status}, 503, 'the upstream refuses');
is($t->get('/dead', host => 'kinds.test')->{status}, 502, 'there is no upstream');
is($t->get('/twice', host => 'kinds.test')->{status}, 200, 'the next upstream answers') for 1 .. 2;
is($t->get('/never', host => 'kinds.test')->{status}, 504, 'the upstream does not answer in time');
ok(!$t->get('/broken', host => 'kinds.test')->{complete}, 'the upstream breaks off');
@lines = $t->logged(8);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 8, 'all of them are charged');
my ($never) = grep { $_->{uri} eq '/never' } @lines;
cmp_ok($never->{ns}, '<', 0.3e9 / 10, 'but not for the time until a timeout');
my $kinds = $t->account_with('hosts', 'kinds.test', 8);
is_deeply($kinds->{responses}, { '1xx' => 0, '2xx' => 5, '3xx' => 0, '4xx' => 0, '5xx' => 3 }, 'and counted by class');
cmp_ok($kinds->{received_bytes}, '>', 1_000_000, 'received bytes have the body');

# Cache
$t->clear_log;
my ($asked, $answers) = (0, 0);
my $cached = sub {
    my ($n) = @_;
    $t->get("/cached/large?$n", host => 'cache.test');
    return ($t->logged(++$answers))[-1]{ns};
};
my ($miss, $hit) = least(sub { $_[0] > 1.5 * $_[1] }, sub { $cached->(++$asked) }, sub { $cached->($asked) });
cmp_ok($miss, '>', 1.5 * $hit, 'a hit costs less than a miss');
$cached->('1&bypass=1');
@lines = $t->logged($answers);
my %by_cache;
push @{ $by_cache{ $_->{cache} } }, $_ for @lines;
is_deeply({ map { $_ => scalar @{ $by_cache{$_} } } keys %by_cache }, { MISS => $asked, HIT => $asked, BYPASS => 1 },
    'misses, hits and a bypass');
my $cache = $t->account_with('hosts', 'cache.test', $answers);
is_deeply(
    $cache->{by_cache_status},
    { map { $_ => { requests => scalar @{ $by_cache{$_} },
        cpu_ns => sum(map { $_->{ns} } @{ $by_cache{$_} }) } } keys %by_cache },
    'the account has requests and CPU by cache status, as the log',
);

# Cache manager and cache loader have no requests, and no worker totals.
my $workers = $t->status->{workers};
is_deeply([ map { $_->{pid} } @$workers ], [ $t->workers ], 'only workers are measured, no helper processes');
# An upstream connection that is kept for later in the middle of its handler call still has an owner
cmp_ok($workers->[0]{other_ns}, '<=', $workers->[0]{charged_ns} / 100, 'hardly anything has no owner');

$t->done;
