# request_cpu_limit: a key that uses more CPU than its limit is refused, until its debt is paid.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('rewrite', 'map', 'ssi');
$t->html($_, "plain\n") for qw(a.txt burn.txt in.txt free/a.txt free/burn.txt);
$t->html('free/page.html', '<!--#include virtual="/in.txt" -->');
$t->html('page.html', '<!--#include virtual="/in.txt" -->' x 3);
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);

# some 100 ms of CPU
my $burn = burn_rules(3);
my $log = <<'EOC';
    log_format limits '$server_name $uri $status $request_cpu_limit_status $request_uri';
    access_log {{dir}}/limits.log limits;
EOC
my $http2 = $t->has('http_v2') ? "listen 127.0.0.1:{{port:h2}}{{http2}}; {{http2_on}}" : '';

my @part = (main => 'worker_processes 2;', http => <<"EOC");
    $log
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu_zone \$arg_k zone=keys:64k;
    request_cpu_zone \$http_x_client zone=clients:1m;
    request_cpu zone=domains zone=keys;
    request_cpu_limit_log_level warn;
    map \$arg_plan \$plan { small 0.01; large 1000; none ""; default \$arg_plan; }
    server { listen 127.0.0.1:{{port:http}}; server_name free.test; }
    server {
        listen 127.0.0.1:{{port:http}}; server_name limited.test; $burn $http2
        request_cpu_limit zone=domains cores=0.03 burst=20ms;
        location / { }
        location = /moved.txt { rewrite ^ /a.txt last; }
        location = /page.html { ssi on; ssi_types *; }
        location /free/ { request_cpu_limit off; ssi on; ssi_types *; }
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name status.limit.test; $burn
        request_cpu_limit zone=domains cores=0.01 burst=0 status=503;
        location / { error_page 503 /page.html; }
        location = /page.html { }
        location /info { request_cpu_limit_log_level info; }
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name dry.test; $burn
        request_cpu_limit zone=domains cores=0.01 burst=1ms dry_run;
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name keys.test; $burn
        request_cpu_limit zone=keys cores=\$plan burst=5ms;
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name both.test; $burn
        request_cpu zone=domains zone=clients;
        request_cpu_limit zone=domains cores=0.01 burst=10ms dry_run;
        request_cpu_limit zone=clients cores=0.01 burst=10ms status=418;
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name refused.test; $burn
        location / { request_cpu_limit zone=domains cores=0.02 burst=10ms; }
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name lasting.test; $burn
        location / { request_cpu_limit zone=domains cores=0.01 burst=10ms; }
    }
EOC
$t->start(@part);

my $x = burn_text();
sub get { my ($host, $uri, %option) = @_; return $t->get($uri, host => $host, %option) }
# All workers know the usage of a request at the end of the event-loop turn that has sent its answer.
sub burn {
    my ($host, $query, %option) = @_;
    my $answer = get($host, '/burn.txt?x=' . $x . ($query ? "&$query" : ''), %option);
    $t->quiet;
    return $answer;
}
# Sends requests until one is served. After that there is a debt of a second or more, on most machines.
sub indebted {
    my ($host) = @_;
    my $done = wait_until(60,
        sub { my $status = burn($host)->{status}; sleep 0.05 if $status != 200; return $status == 200 });
    return $done || die "$host was not let in\n";
}
sub said {
    my ($n) = @_;
    my $line;
    wait_until(60, sub { ($line) = $t->slurp($t->dir . '/limits.log') =~ /^(.*) \S+\bn=\Q$n\E\n/m });
    return $line;
}
sub limit { my ($zone, $key) = @_; return $t->account($zone, $key)->{limit} }
sub charged { my ($zone, $key, $requests) = @_; return $t->account_with($zone, $key, $requests)->{limit} }

# A key within its limit is served as without a limit
is(get('limited.test', '/a.txt?n=first')->{status}, 200, 'a key within its limit is served');
is(said('first'), 'limited.test /a.txt 200 PASSED', 'and the variable says so');
is(get('free.test', '/a.txt?n=free')->{status}, 200, 'as is one without a limit');
is(said('free'), 'free.test /a.txt 200 -', 'for which it says nothing');
my $limit = charged('domains', 'limited.test', 1);
is_deeply([ @$limit{qw(cores burst_ns debt_ns refused refused_dry_run refused_cpu_ns)} ], [ 0.03, 20e6, 0, 0, 0, 0 ],
    'the status shows the limit');
ok(!exists $t->account('domains', 'free.test')->{limit}, 'where there is one');

# The first request beyond the limit is served, since its cost is not known before
my $start = time;
is(burn('limited.test')->{status}, 200, 'an expensive request is served');
$limit = charged('domains', 'limited.test', 2);
my $account = $t->account('domains', 'limited.test');
my $passed = time - $start;
my $used_ns = $account->{cpu_ns} - 20e6;
within($limit->{debt_ns}, $used_ns, 0.9 - $passed * 0.03e9 / $used_ns, 1,
    'the CPU beyond the burst is the debt');
my $refused = get('limited.test', '/a.txt?n=refused');
is($refused->{status}, 429, 'the next one is refused');
like($refused->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'with the time to come again in whole seconds');
is(said('refused'), 'limited.test /a.txt 429 REJECTED', 'which the variable says too');
my $lasts = $limit->{debt_ns} / 1e9 / 0.03;
cmp_ok($refused->{headers}{'retry-after'}, '<=', $lasts + 1, 'which is how long the debt lasts');
cmp_ok($refused->{headers}{'retry-after'}, '>=', $lasts - (time - $start), 'and not less');
like($t->error_log, qr/\[warn\] .*limiting requests by CPU, debt: \d+\.\d{3} s, zone "domains", key "limited\.test", client: "?127\.0\.0\.1"?, server: "?limited\.test/,
    'the log tells of the debt');
is(get('free.test', '/a.txt')->{status}, 200, 'others are served');
is(get('limited.test', '/free/a.txt?n=off')->{status}, 200, 'so is the same key where there is no limit');
is(said('off'), 'limited.test /free/a.txt 200 -', 'and not checked');

# A client that keeps sending requests is not refused for ever
my $before = limit('domains', 'limited.test');
get('limited.test', '/a.txt') for 1 .. 10;
$limit = charged('domains', 'limited.test', 14);
is($limit->{refused} - $before->{refused}, 10, 'each refusal is counted');
cmp_ok($limit->{refused_cpu_ns}, '>', $before->{refused_cpu_ns}, 'and so is its CPU');
cmp_ok($limit->{debt_ns}, '<', $before->{debt_ns}, 'which is in no debt');
# the time of the last refused request
my $last;
my $when = wait_until($lasts + 10, sub {
    my $sent = time;
    my $status = get('limited.test', '/a.txt')->{status};
    $last = $sent if $status == 429;
    sleep 0.02;
    return $status == 200 && time;
});
ok($when, 'when the debt is paid the key is served again');
cmp_ok($when - $start, '>', 0.95 * $lasts, 'not before') if $when;
cmp_ok(($last || 0) - $start - $passed, '<', 1.05 * $lasts + 0.1, 'and not later');

# A client that waits for the time in Retry-After is served
indebted('limited.test');
$refused = get('limited.test', '/a.txt');
is($refused->{status}, 429, 'in debt again');
sleep $refused->{headers}{'retry-after'};
is(get('limited.test', '/a.txt')->{status}, 200, 'who waits as long as was said is served');

# Internal redirects and subrequests are not checked again. The debt may just have been paid, so the test waits for a
# second of reserve.
sleep 1;
is(get('limited.test', '/moved.txt?n=moved')->{status}, 200, 'an internal redirect within the limit is served');
is(said('moved'), 'limited.test /a.txt 200 PASSED', 'the variable is kept');
my $page = get('limited.test', '/page.html');
is($page->{body}, "plain\nplain\nplain\n", 'subrequests are served');
indebted('limited.test');
is(limit('domains', 'limited.test')->{refused} + 1,
    do { get('limited.test', '/moved.txt'); charged('domains', 'limited.test', 0)->{refused} },
    'a request is refused once');
$page = get('limited.test', '/free/page.html?n=include');
is($page->{body}, "plain\n", 'a subrequest is not checked, even where its request was not');
is(said('include'), 'limited.test /free/page.html 200 -', 'and the variable says so');

# Status and error_page
is(burn('status.limit.test')->{status}, 200, 'without a burst the first request is served');
$refused = get('status.limit.test', '/a.txt?n=page');
is($refused->{status}, 503, 'and the next one refused by the status that is configured');
is($refused->{body}, '<!--#include virtual="/in.txt" -->' x 3, 'error_page has its page');
like($refused->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'and Retry-After is there');
is(said('page'), 'status.limit.test /page.html 503 REJECTED', 'the variable is kept');
get('status.limit.test', '/info');
like($t->error_log, qr/\[info\] .*limiting requests by CPU/, 'the log level is that of the location');

# dry_run refuses no request, and reports what it would have done
is(burn('dry.test')->{status}, 200, 'dry_run: an expensive request');
$before = charged('domains', 'dry.test', 1);
is(get('dry.test', '/a.txt?n=dry')->{status}, 200, 'dry_run: the next one is served');
is(said('dry'), 'dry.test /a.txt 200 REJECTED_DRY_RUN', 'dry_run: the variable has the result without dry_run');
like($t->error_log, qr/\[warn\] .*limiting requests by CPU, dry run, debt: [\d.]+ s, zone "domains", key "dry\.test"/,
    'dry_run: the log too');
is(burn('dry.test')->{status}, 200, 'dry_run: an expensive one is served too');
$limit = charged('domains', 'dry.test', 3);
is_deeply([ @$limit{qw(refused refused_dry_run refused_cpu_ns)} ], [ 0, 2, 0 ], 'dry_run: they are counted apart');
cmp_ok($limit->{refused_dry_run_cpu_ns}, '>', 5e6, 'dry_run: so is their CPU');
cmp_ok($limit->{debt_ns}, '<', $before->{debt_ns}, 'dry_run: requests that it would refuse do not add to the debt');
my ($samples) = $t->prometheus('zone=domains&key=dry.test&detail=low');
my %value = map { (join ' ', grep { defined } $_->[0] =~ /nginx_request_cpu_(.*)/, $_->[1]{dry_run}) => $_->[2] }
    grep { $_->[0] =~ /limit/ } @$samples;
is_deeply([ map { 0 + $value{$_} } 'limit_cores', 'limit_refused_requests_total no',
    'limit_refused_requests_total yes', 'limit_refused_seconds_total no' ], [ 0.01, 0, 2, 0 ], 'Prometheus has them');
cmp_ok($value{limit_debt_seconds}, '>', 0, 'and the debt');

# Keys from requests, and plans from a map
is(get('keys.test', '/a.txt?plan=small&n=nokey')->{status}, 200, 'an empty key');
is(said('nokey'), 'keys.test /a.txt 200 -', 'an empty key is not limited');
is(burn('keys.test', 'k=one&plan=small')->{status}, 200, 'a key of a small plan');
is(get('keys.test', '/a.txt?k=one&plan=small')->{status}, 429, 'is refused');
is(get('keys.test', '/a.txt?k=two&plan=small')->{status}, 200, 'another key of the same plan is not');
is(get('keys.test', '/a.txt?k=one&plan=none&n=none')->{status}, 200, 'an empty value lifts the limit from a request');
is(said('none'), 'keys.test /a.txt 200 -', 'which the variable says nothing of');
get('keys.test', '/a.txt?k=one&plan=large');
sleep 0.02;
is(get('keys.test', '/a.txt?k=one&plan=large')->{status}, 200,
    'a large plan pays the debt fast, from its first request on');
burn('keys.test', 'k=one&plan=large') for 1 .. 2;
is(get('keys.test', '/a.txt?k=one&plan=large')->{status}, 200, 'and lets all in');
is(limit('keys', 'one')->{cores}, 1000, 'the rate is that of the last request');
is(get('keys.test', "/a.txt?k=one&plan=$_")->{status}, 200, "a bad value of cores ($_) does not limit")
    for qw(many 0 -1 1e3 0.0001 100001 1.), 'x' x 300;
my @complaints = $t->error_log =~ /\[error\] .*invalid cores "(\w*)" in "request_cpu_limit"/g;
cmp_ok(scalar @complaints, '>=', 1, 'it is logged as an error');
cmp_ok(scalar @complaints, '<=', 2, 'but not each time, by each of two workers');

# The overflow account is limited as any other
get('keys.test', "/a.txt?k=fill-$_&plan=large") for 1 .. 60;
cmp_ok($t->status('zone=keys')->{zones}{keys}{overflowed}, '>', 0, 'the zone is full');
is(burn('keys.test', 'k=late-1&plan=small')->{status}, 200, 'a key without room');
is(get('keys.test', '/a.txt?k=late-2&plan=small')->{status}, 429, 'makes a debt for all that have none');
is(get('keys.test', '/a.txt?k=fill-1&plan=small')->{status}, 200, 'but not for those that have');
cmp_ok(limit('keys', '*')->{refused}, '>', 0, 'refusals are in the account *');

# Two limits
my %client = (headers => { 'X-Client' => 'c1' });
is(burn('both.test', '', %client)->{status}, 200, 'two limits: the first request');
is(get('both.test', '/a.txt?n=both', %client)->{status}, 418, 'two limits: one that refuses is enough');
is(said('both'), 'both.test /a.txt 418 REJECTED', 'and goes before dry_run');
is(get('both.test', '/a.txt?n=other', headers => { 'X-Client' => 'c2' })->{status}, 200,
    'another client is not refused');
is(said('other'), 'both.test /a.txt 200 REJECTED_DRY_RUN', 'but by the dry run of the domain');
is(get('both.test', '/a.txt?n=noclient')->{status}, 200, 'nor is one without a key there');
charged('domains', 'both.test', 4);
is_deeply([ map { my $l = limit(@$_); @$l{qw(refused refused_dry_run)} } [ 'domains', 'both.test' ],
    [ 'clients', 'c1' ], [ 'clients', 'c2' ] ],
    [ 0, 3, 1, 0, 0, 0 ], 'each limit counts its refusals');
cmp_ok(limit('clients', 'c2')->{refused_dry_run_cpu_ns}, '==', 0,
    'requests that a dry run would refuse count for another limit');

# Refused requests: a body that is not read, a connection that is kept open, a body without an end
indebted('refused.test');
my $c = $t->connect('http');
is($c->get('/a.txt', host => 'refused.test', method => 'POST', body => 'x' x 5_000)->{status}, 429,
    'a request with a body is refused');
is($c->get('/a.txt', host => 'free.test')->{status}, 200, 'its connection goes on');
is($c->get('/a.txt', host => 'refused.test', method => 'HEAD')->{status}, 429, 'so is HEAD');
is($c->get('/a.txt', host => 'free.test')->{status}, 200, 'and goes on');
$c->close;

SKIP: {
    skip 'no HTTP/2', 3 unless $t->has('http_v2');
    indebted('limited.test');
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    my @numbers = (0) x 5;
    $client->send($client->preface,
        map { $client->request('/a.txt?n=h2', host => 'limited.test', number => \$numbers[$_]) } 0 .. 4);
    ok($client->finish, 'HTTP/2: five streams in one packet end');
    like(said('h2'), qr{limited\.test /a\.txt 429 REJECTED}, 'HTTP/2: refused');
    my $lines = wait_until(60,
        sub { my $n = () = $t->slurp($t->dir . '/limits.log') =~ / 429 REJECTED \S+n=h2\n/g; $n == 5 && $n });
    is($lines, 5, 'HTTP/2: all of them');
}

# Reloads and killed workers
indebted('lasting.test');
my $again = limit('domains', 'lasting.test');
cmp_ok($again->{debt_ns}, '>', 0, 'a debt');
ok($t->reload, 'a reload');
is(get('lasting.test', '/a.txt')->{status}, 429, 'keeps the debt');
cmp_ok(limit('domains', 'lasting.test')->{debt_ns}, '>', 0, 'it is in the status');
my @old = $t->workers;
kill KILL => @old;
ok(wait_until(60, sub { my %now = map { $_ => 1 } $t->workers; %now == 2 && !grep { $now{$_} } @old }),
    'both workers are killed, and replaced');
$refused = get('lasting.test', '/a.txt');
is($refused->{status}, 429, 'they keep it too');
my $wait = $refused->{headers}{'retry-after'};
ok(wait_until($wait + 20, sub { sleep 0.1; get('lasting.test', '/a.txt')->{status} == 200 }), 'and it is paid in time');

$t->done;
