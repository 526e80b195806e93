# Requests that end before limits are checked, such as 400 and `return`, do not keep a key refused: their usage does
# not add to the debt. The same is true for what a refused request takes over from its connection.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('rewrite', 'http_ssl');
$t->html($_, "plain\n") for qw(a.txt burn.txt error.txt free/a.txt);
$t->certificate(ecdsa => 'tls');
my $burn = burn_rules(3);
# some 50 ms in the rewrite phase, which also answers
my $dear = burn_rules(1);
my $http2 = $t->has('http_v2') ? "listen 127.0.0.1:{{port:h2}}{{http2}}; {{http2_on}}" : '';
$t->start(http => <<"EOC");
    request_cpu_zone \$server_name zone=z:1m;
    request_cpu zone=z;
    request_cpu_limit zone=z cores=0.001 burst=1ms;
    request_cpu_limit_log_level info;
    ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key;
    server {
        listen 127.0.0.1:{{port:http}}; listen 127.0.0.1:{{port:tls}} ssl; server_name one.test; $http2
        location / { $burn }
        location = /return { $dear return 301 https://one.test/; }
        location = /rewrite { $dear rewrite ^ https://one.test/ permanent; }
        location = /page { $dear error_page 403 /error.txt; return 403; }
        location /free/ { request_cpu_limit off; $dear }
        location = /free_return { request_cpu_limit off; $dear return 204; }
    }
    server {
        listen 127.0.0.1:{{port:calm}}; server_name calm.test;
        request_cpu_limit zone=z cores=1000 burst=10s;
        location = /return { $dear return 204; }
    }
    server {
        listen 127.0.0.1:{{port:calm}}; server_name dry.test;
        request_cpu_limit zone=z cores=0.001 burst=5ms dry_run;
        location / { }
        location = /return { $dear return 204; }
    }
    server {
        listen 127.0.0.1:{{port:calm}}; server_name burst.test;
        request_cpu_limit zone=z cores=0.001 burst=200ms;
        location / { }
        location = /return { $dear return 204; }
    }
    server {
        listen 127.0.0.1:{{port:none}}; server_name none.test; request_cpu_limit off;
        location / { $burn }
        location = /return { $dear return 204; }
    }
EOC

my $x = burn_text();
sub get { my ($uri, %option) = @_; my $answer = $t->get($uri, %option); $t->quiet; return $answer }
sub account { my ($key) = @_; return $t->account('z', $key // 'one.test') }

is(get("/burn.txt?x=$x")->{status}, 200, 'an expensive request');
is(get('/a.txt')->{status}, 429, 'its key is in debt');

# The increase of the debt, without the part that was paid meanwhile, and of the CPU of refused requests
sub added {
    my ($do) = @_;
    my $before = account();
    $do->();
    $t->quiet;
    my $after = account();
    return {
        cpu => $after->{cpu_ns} - $before->{cpu_ns},
        debt => $after->{limit}{debt_ns} - $before->{limit}{debt_ns},
        refused => $after->{limit}{refused_cpu_ns} - $before->{limit}{refused_cpu_ns},
        count => $after->{limit}{refused} - $before->{limit}{refused},
        requests => $after->{requests} - $before->{requests},
    };
}
sub apart {
    my ($name, $requests, $do) = @_;
    my $added = added($do);
    is($added->{requests}, $requests, "$name: counted in the account");
    cmp_ok($added->{debt}, '<=', 0, "$name: in no debt");
    is($added->{refused}, $added->{cpu}, "$name: as what refused requests use");
    is($added->{count}, 0, "$name: which it is not counted as");
}

apart('return', 2, sub { is($t->get("/return?x=$x")->{status}, 301, 'an answer of the rewrite phase') for 1 .. 2 });
apart('rewrite', 1, sub { is($t->get("/rewrite?x=$x")->{status}, 301, 'a redirect') });
apart('400', 20, sub {
    for (1 .. 20) {
        my $c = $t->connect('http');
        $c->send("GET /a.txt HTTP/1.1\r\nHost: one.test\r\nbad header\r\n\r\n");
        like($c->read_all, qr{^HTTP/1.1 400 }, 'a malformed header') if $_ == 1;
        $c->close;
    }
});
sub over_tls {
    my ($request) = @_;
    my ($status, $output) = run_command('openssl', 's_client', '-connect', '127.0.0.1:' . $t->port('tls'), '-quiet',
        '-ign_eof', { input => $request });
    return $output =~ m{^HTTP/1.1 (\d+)}m ? $1 : diag($output);
}
apart('400 over TLS', 3,
    sub { is(over_tls("GET /a.txt HTTP/1.1\r\nHost: a b\r\n\r\n"), 400, 'a malformed name over TLS') for 1 .. 3 });
apart('413', 5, sub {
    for (1 .. 5) {
        my $c = $t->connect('http');
        $c->send("POST /a.txt HTTP/1.1\r\nHost: one.test\r\nContent-Length: 100000000\r\n\r\n");
        $c->read_until(qr{^HTTP/1.1 413 }, 10) or diag('no answer');
        $c->close;
    }
});
SKIP: {
    skip 'no HTTP/2', 5 unless $t->has('http_v2');
    apart('return over HTTP/2', 3, sub {
        my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
        $client->send($client->preface, map { $client->request("/return?x=$x", host => 'one.test') } 1 .. 3);
        ok($client->finish, 'three streams in one packet');
        # the rest of the connection is added when it ends
        $client->{connection}->close;
    });
}
my $page = added(sub { is($t->get("/page?x=$x")->{status}, 429, 'the target of error_page is checked') });
is($page->{count}, 1, 'error_page: refused once');
cmp_ok($page->{debt}, '<=', 0, 'error_page: in no debt');

# The CPU of a connection whose first request is refused
my $tls = added(sub { is(over_tls("GET /a.txt HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n"), 429,
    'a request over TLS is refused') for 1 .. 3 });
is($tls->{count}, 3, 'the first requests of three connections');
cmp_ok($tls->{debt}, '<=', 0, 'their handshakes are in no debt');
is($tls->{refused}, $tls->{cpu}, 'but in the account, as CPU of refused requests');
cmp_ok(account()->{tls_handshakes}{new}{handshakes} // 0, '>=', 3, 'which has counted them');

# Requests without a limit add to the debt after they have passed the phase in which limits are checked
my $free = added(sub { is($t->get("/free/a.txt?x=$x")->{status}, 200, 'a location without a limit') });
cmp_ok($free->{debt}, '>', 0.5 * $free->{cpu}, 'without a limit: in the debt');
is($free->{refused}, 0, 'without a limit: not as CPU of refused requests');
apart('return without a limit', 1,
    sub { is($t->get("/free_return?x=$x")->{status}, 204, 'an answer of the rewrite phase') });

# Such requests use up a burst, and make no debt
is($t->get('/a.txt', port => 'calm', host => 'burst.test')->{status}, 200, 'a key with a burst');
is($t->get("/return?x=$x", port => 'calm', host => 'burst.test')->{status}, 204, 'return, over and over') for 1 .. 30;
$t->quiet;
my $burst = account('burst.test');
cmp_ok($burst->{limit}{refused_cpu_ns}, '>', 0.3 * $burst->{cpu_ns},
    'CPU beyond the burst counts as CPU of refused requests');
cmp_ok($burst->{cpu_ns} - $burst->{limit}{refused_cpu_ns}, '>', 50e6, 'CPU within the burst is not');
is($t->get('/a.txt', port => 'calm', host => 'burst.test')->{status}, 200, 'and the key is served all the time');

# With dry_run, they are counted as requests that would have been refused
is($t->get('/a.txt', port => 'calm', host => 'dry.test')->{status}, 200, 'dry_run: a request');
is($t->get("/return?x=$x", port => 'calm', host => 'dry.test')->{status}, 204, 'dry_run: return') for 1 .. 3;
$t->quiet;
my $dry = account('dry.test')->{limit};
is_deeply([ @$dry{qw(debt_ns refused refused_cpu_ns refused_dry_run)} ], [ 0, 0, 0, 0 ],
    'dry_run: makes no debt, and nothing is refused');
cmp_ok($dry->{refused_dry_run_cpu_ns}, '>', 10e6, 'dry_run: its CPU is that of dry_run');

# A key that is not in debt, and a key for which no limit was ever checked
is($t->get("/return?x=$x", port => 'calm', host => 'calm.test')->{status}, 204,
    'return in a server that is in no debt');
is($t->get("/return?x=$x", port => 'none', host => 'none.test')->{status}, 204, 'and where no limit applies');
$t->quiet;
is(account($_)->{limit}{refused_cpu_ns} // 0, 0, "$_: nothing is refused") for qw(calm.test none.test);

$t->done;
