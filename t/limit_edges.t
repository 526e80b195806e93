# Edge cases of limits: the cost of refusals, requests that run long, restarts, a server without a master.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('rewrite', 'gzip');
$t->html($_, "plain\n") for qw(a.txt burn.txt b/a.txt);
$t->html('large.txt', words(8_000_000));

my $burn = burn_rules(3);
my $x = burn_text();
my $http2 = $t->has('http_v2') ? 'listen 127.0.0.1:{{port:h2}}{{http2}}; {{http2_on}}' : '';
my $http = <<"EOC";
    request_cpu_zone \$server_name zone=domains:1m state={{dir}}/state;
    request_cpu zone=domains;
    request_cpu_limit_log_level info;
    server { listen 127.0.0.1:{{port:http}}; server_name debtor.test;
        $http2 $burn request_cpu_limit zone=domains cores=0.01 burst=10ms; }
    server { listen 127.0.0.1:{{port:http}}; server_name closed.test;
        $burn request_cpu_limit zone=domains cores=0.01 burst=10ms status=444; }
    server {
        listen 127.0.0.1:{{port:http}}; listen 127.0.0.1:{{port:slow}} sndbuf=16k; server_name long.test; gzip on;
            gzip_types *; gzip_comp_level 9; request_cpu_limit zone=domains cores=0.01 burst=10ms;
    }
EOC
$t->start(http => $http);

sub used {
    my ($key) = @_;
    $t->quiet;
    my $account = $t->account('domains', $key);
    return ($account->{cpu_ns} - $account->{limit}{refused_cpu_ns}, $account->{limit});
}

sub burn { my ($host) = @_; return $t->get("/burn.txt?x=$x", host => $host) }

# All CPU of a refused request is counted separately: the accept of its connection, the request itself, and the work
# after the log line
is(burn('debtor.test')->{status}, 200, 'an expensive request');
my ($before, $limit) = used('debtor.test');
is($t->get('/a.txt', host => 'debtor.test')->{status}, 429, 'a debt') for 1 .. 3;
my ($after) = used('debtor.test');
is($after, $before, 'refused requests on connections of their own use nothing');
my $c = $t->connect('http');
is(join(' ', map { $c->get('/a.txt', host => 'debtor.test')->{status} } 1 .. 20), join(' ', (429) x 20),
    'many on one connection');
$c->close;
($after) = used('debtor.test');
is($after, $before, 'use nothing either');
is($t->get('/burn.txt?x=' . $x, host => 'debtor.test')->{status}, 429,
    'one that is refused after an expensive rewrite');
($after, my $later) = used('debtor.test');
is($after, $before, 'uses nothing');
cmp_ok($later->{refused_cpu_ns} - $limit->{refused_cpu_ns}, '>', 20e6, 'but it is shown');
SKIP: {
    skip 'no HTTP/2', 3 unless $http2;
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    $client->send($client->preface, map { $client->request('/a.txt', host => 'debtor.test') } 1 .. 20);
    ok($client->finish, 'HTTP/2: twenty streams');
    ($after, $later) = used('debtor.test');
    is($later->{refused}, 3 + 20 + 1 + 20, 'HTTP/2: all are refused');
    is($after, $before, 'HTTP/2: and use nothing');
}
$t->check_totals(name => 'with refusals');

# NGINX closes a connection that is answered with 444
is(burn('closed.test')->{status}, 200, 'an expensive request');
is($t->get('/a.txt', host => 'closed.test')->{status}, 0, 'the status 444 closes the connection');

# A long request counts before it ends
$c = $t->connect('slow', window => 16_384);
$c->request('/large.txt', host => 'long.test', headers => { 'Accept-Encoding' => 'gzip' });
my $refused = wait_until(60, sub {
    # some seconds of the largest rate
    $c->read_bytes(20_000, 1);
    sleep 0.05;
    return $t->get('/a.txt', host => 'long.test')->{status} == 429;
});
ok($refused, 'while a request runs, others of its key are refused');
is($t->account('domains', 'long.test')->{in_flight}, 1, 'it is still open');
ok(defined $c->read_bytes(20_000, 5), 'and goes on');
$c->close;

# A restart keeps the counters, and cancels debts
burn('debtor.test');    # should the debt have been paid meanwhile
$t->quiet;
my $kept = $t->account('domains', 'debtor.test')->{limit};
cmp_ok($kept->{debt_ns}, '>', 0, 'there is a debt');
is($t->stop, 0, 'NGINX stops');
$t->start(http => $http);
ok(!exists $t->account('domains', 'debtor.test')->{limit}, 'after a restart, no limit is known');
my ($samples) = $t->prometheus;
my ($counter) = grep { $_->[0] eq 'nginx_request_cpu_limit_refused_requests_total' && $_->[1]{key} eq 'debtor.test'
    && $_->[1]{dry_run} eq 'no' } @$samples;
is($counter->[2], $kept->{refused}, 'but the counters are');
is($t->get('/a.txt', host => 'debtor.test')->{status}, 200, 'the debt is forgiven');
my $now = $t->account_with('domains', 'debtor.test', 1)->{limit};
is($now->{refused}, $kept->{refused}, 'the status has them with the first request');
is(burn('debtor.test')->{status}, 200, 'an expensive request');
$t->quiet;
is($t->get('/a.txt', host => 'debtor.test')->{status}, 429, 'and it is limited again');

# A limit added by a reload begins with a full bucket, whatever was used before; after its removal all requests are
# served
(my $without = $http) =~ s/request_cpu_limit (?!_)[^;]*;//g;
ok($t->reload(http => $without), 'a reload without limits');
is($t->get('/a.txt', host => 'debtor.test')->{status}, 200, 'lets all in');
$t->html('new.txt', "plain\n");
ok($t->reload(http => $http), 'a reload with limits');
is($t->get('/a.txt', host => 'debtor.test')->{status}, 429, 'has the debt again, if it is not long ago');
is($t->stop, 0, 'NGINX stops');

# A single process, which stops measuring after a reload
$t->start(single_process => 1, http => $http);
is(burn('closed.test')->{status}, 200, 'single process: an expensive request');
is($t->get('/a.txt', host => 'closed.test')->{status}, 0, 'single process: refused');

$t->done(no_totals => 1);
