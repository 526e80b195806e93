# The billing metrics: duration, active interval, active and idle seconds, memory times time, peaks. The status as
# JSON, Prometheus' format and the traffic log show the same figures.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(max min);
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Test::RequestCpu::TrafficLog;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('proxy');
$t->html('held.txt', 'x' x 100_000);
my ($log, $endless) = map { $t->dir . "/$_.log" } qw(traffic endless);

my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection) = @_;
    $connection->send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    while (defined(my $line = $connection->read_until(qr/\n/, 60))) { $connection->send("echo $line") }
    return 0;
});
my @socket = ('/socket', headers => { Upgrade => 'websocket', Connection => 'Upgrade' });

my $http2 = $t->has('http_v2');
sub http {
    my (%change) = @_;
    my $threshold = defined $change{threshold} ? "active_threshold=$change{threshold}" : '';
    my $listen = $http2 ? 'listen 127.0.0.1:{{port:http2}}{{http2}}; {{http2_on}}' : 'listen 127.0.0.1:{{port:http2}};';
    return <<"EOC";
    request_cpu_zone \$host zone=hosts:1m state=state $threshold;
    request_cpu_zone \$host zone=idle:1m active_threshold=100;
    request_cpu_zone \$host zone=busy:1m active_threshold=0;
    request_cpu zone=hosts zone=idle zone=busy;
    request_cpu_log traffic.log zone=hosts interval=1s;
    request_cpu_log endless.log zone=hosts interval=3660d;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /held.txt { limit_rate 5k; }
        location = /burn { @{[ burn_rules(1) ]} return 200 "burnt\\n"; }
        location = /socket {
            proxy_pass http://127.0.0.1:{{port:upstream}};
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
        }
    }
    server {
        $listen
        location = /held.txt { limit_rate 20k; limit_rate_after 0; }
    }
EOC
}

my @plain = qw(duration_ms active_ms active_seconds billable_cpu_ns waived_cpu_ns memory_byte_ms);
my @measures = (@plain, qw(gb_seconds peak_cores));

# A busy client for so many seconds.
sub busy {
    my ($host, $seconds) = @_;
    my ($end, $uri, $sent) = (time + $seconds, '/burn?x=' . burn_text(17), 0);
    my $connection = $t->connect('http');
    while (time < $end) { $sent++ if $connection->get($uri, host => $host)->{status} == 200 }
    $connection->close;
    return $sent;
}

# Waits until all seconds are over, and all workers have noticed it.
sub rest {
    my ($zone, @keys) = @_;
    return wait_until(60, sub {
        my $keys = $t->status->{zones}{$zone}{keys};
        return !grep { my $its = $keys->{$_}; !$its
            || $its->{billable_cpu_ns} + $its->{waived_cpu_ns} != $its->{cpu_ns} } @keys ? @keys : keys %$keys;
    });
}

sub billion { return sprintf '%.0f', $_[0] * 1e9 }

$t->start(main => 'worker_processes 2;', http => http(threshold => '2%'));

#
# A mostly silent session, beside a busy API

my @time = (time);
my $session = $t->connect('http', timeout => 60);
$session->request(@socket, host => 'session.test');
is($session->response->{status}, 101, 'a session is opened');
push @time, time;
my $api = detached(sub { busy('api.test', 4) });
for my $n (1 .. 2) {
    sleep 1.9;
    $session->send("message $n\n");
    ok(defined $session->read_until(qr/^echo message $n\n/, 10), 'a message now and then');
}
my $open = $t->account('hosts', 'session.test');
is($open->{requests}, 0, 'the session has not ended');
cmp_ok($open->{duration_ms}, '>', 1500, 'but its time is counted');
cmp_ok($open->{active_ms}, '>=', 3700, 'and the active interval to the millisecond, without a wakeup');
cmp_ok($open->{memory_byte_ms}, '>', 0, 'and its memory');
my $served = $api->result;
cmp_ok($served, '>', 10, "the API has served $served requests meanwhile");

# windows contain whole seconds
my ($zone, $sum) = ($t->status->{zones}{hosts});
ok(wait_until(60, sub {
    $zone = $t->status->{zones}{hosts};
    my $faults = 0;
    for my $window (qw(6s 60s)) {
        for my $name (qw(in_flight requests_per_second cores)) {
            $sum = sum(map { $_->{windows}{$window}{$name} } values %{ $zone->{keys} });
            $faults++ if abs($zone->{windows}{$window}{$name} - $sum) > 1e-5;
        }
    }
    return !$faults;
}), 'the windows of a zone are the sums of those of its keys') or diag(explain($zone));
cmp_ok($zone->{keys}{'session.test'}{windows}{'6s'}{in_flight}, '>', 0.3, 'a silent session is in flight')
    or diag(explain($zone->{keys}));
cmp_ok($zone->{keys}{'session.test'}{windows}{'6s'}{in_flight}, '<', 1.2, 'once');
cmp_ok($zone->{keys}{'api.test'}{windows}{'6s'}{requests_per_second}, '>', $served / 20,
    'the API has requests per second');
cmp_ok($zone->{keys}{'api.test'}{windows}{'6s'}{cores}, '>', $zone->{keys}{'session.test'}{windows}{'6s'}{cores},
    'and more cores');

push @time, time;
$session->close;
my $closed = $t->account_with('hosts', 'session.test', 1);
push @time, time;
ok(rest('hosts'), 'CPU is billable or waived when its second is over');
$closed = $t->account('hosts', 'session.test');
my ($least, $most) = map { 1000 * $_ } $time[2] - $time[1] - 0.1, $time[3] - $time[0] + 0.1;
for my $name (qw(duration_ms active_ms)) {
    ok($closed->{$name} >= $least && $closed->{$name} <= $most, "session: $name is the time that it was open")
        or diag("$closed->{$name}, $least to $most");
}
cmp_ok(abs($closed->{duration_ms} - $closed->{active_ms}), '<=', 5, 'both are the same where there is one request');
is($closed->{active_seconds}, 0, 'no second of it was active');
is($closed->{billable_cpu_ns}, 0, 'nothing is billable');
is($closed->{waived_cpu_ns}, $closed->{cpu_ns}, 'all of its CPU is waived');
my $bytes = $closed->{memory_byte_ms} / $closed->{duration_ms};
ok($bytes > 1000 && $bytes < 1e6, sprintf 'it held %.0f bytes on average', $bytes);
my $busy = $t->account('hosts', 'api.test');
cmp_ok($busy->{active_seconds}, '>=', 3, 'API: seconds are active');
cmp_ok($busy->{active_seconds}, '<=', 7, 'as long as it was called');
cmp_ok($busy->{billable_cpu_ns}, '>', 0.9 * $busy->{cpu_ns}, 'API: its CPU is billable');
cmp_ok($busy->{duration_ms}, '<=', 1000 * ($time[3] - $time[0]), 'API: its duration is not more than there was');
cmp_ok($busy->{duration_ms} + $served, '>=', $busy->{active_ms},
    'nor its active interval, but for parts of milliseconds');
cmp_ok($busy->{duration_ms} * 1e6, '>', 0.8 * $busy->{cpu_ns}, 'API: it takes as long as its CPU at least');
cmp_ok($busy->{peak_cores} * 1e9, '>=', $busy->{billable_cpu_ns} / $busy->{active_seconds} - 1,
    'API: the peak is no less than the average');
cmp_ok($busy->{peak_cores}, '<=', 2.1, 'and no more than workers have');

# Other thresholds
ok(rest($_), "$_: CPU is billable or waived") for qw(idle busy);
my $keys = $t->status->{zones};
is(sum(map { $_->{billable_cpu_ns} + $_->{active_seconds} } values %{ $keys->{idle}{keys} }), 0,
    'nothing reaches a threshold of a hundred cores');
is(sum(map { $_->{waived_cpu_ns} } values %{ $keys->{busy}{keys} }), 0, 'all reaches one of 0');
cmp_ok($keys->{busy}{keys}{'session.test'}{active_seconds}, '>', 0, 'where there was CPU');
cmp_ok($keys->{busy}{keys}{'session.test'}{active_seconds}, '<=', $most / 1000 + 1, 'and no other second');

#
# Two at the same time
#

sub two {
    my ($host, $begin) = @_;
    my @end = (time);
    my @both = $begin->();
    my $opened = time;
    sleep 1.2;
    push @end, time;
    $_->close for @both;
    my $account = $t->account_with('hosts', $host, 2);
    push @end, time;
    within($account->{active_ms}, 1000 * ($end[2] - $end[0]), 1.15 / ($end[2] - $end[0]), 1.02,
        "$host: active as long as one of them was open");
    # one request begins some time before the other
    my $of_the_other = $account->{duration_ms} - $account->{active_ms};
    ok($of_the_other >= 900 * ($end[1] - $opened) && $of_the_other <= 1.01 * $account->{active_ms},
        "$host: duration is of both")
        or diag("$account->{duration_ms}, $account->{active_ms}");
    return $account;
}
two('two.test', sub {
    return map { my $c = $t->connect('http'); $c->request(@socket, host => 'two.test'); $c->response; $c } 1 .. 2;
});
SKIP: {
    skip('no HTTP/2 here', 4) unless $http2;
    my $account = two('h2.test', sub {
        my $client = Test::RequestCpu::HTTP2->new($t->connect('http2', timeout => 60));
        $client->send($client->preface, map { $client->request('/held.txt', host => 'h2.test') } 1 .. 2);
        return $client->{connection};
    });
    cmp_ok($account->{memory_byte_ms}, '>', 2000 * $account->{duration_ms} / 2, 'HTTP/2: with the memory of both');
    cmp_ok($account->{active_seconds}, '<=', 3, 'HTTP/2: seconds are judged');
}

#
# All formats show the same figures

ok(rest('hosts'), 'at rest');
my $json;
# wait until nothing changes, except the windows
wait_until(60, sub { $json = $t->status->{zones}{hosts}{keys};
    !unwritten(sums_of(lines_of($log))->{hosts} || {}, counters_of($t, 'hosts')) });
my ($samples) = $t->prometheus;
sub sample {
    my ($name, %label) = @_;
    my @found = map { $_->[2] } grep {
        my $sample = $_;
        $sample->[0] eq "nginx_request_cpu_$name" && !grep { ($sample->[1]{$_} // '') ne $label{$_} } keys %label
    } @$samples;
    return @found == 1 ? $found[0] : "@found";
}
for my $key (sort keys %$json) {
    my ($account, %label) = ($json->{$key}, zone => 'hosts', key => $key);
    my @wrong = grep { !exists $account->{$_} } @measures;
    is("@wrong", '', "$key: JSON has all measures");
    is(sample('duration_seconds_total', %label), sprintf('%.3f', $account->{duration_ms} / 1000), "$key: duration");
    is(sample('active_interval_seconds_total', %label), sprintf('%.3f', $account->{active_ms} / 1000),
        "$key: active interval");
    is(sample('active_seconds_total', %label), $account->{active_seconds}, "$key: active seconds");
    is(billion(sample("${_}_seconds_total", %label)), $account->{"${_}_cpu_ns"}, "$key: $_") for qw(billable waived);
    is(sprintf('%.0f', 1000 * sample('memory_byte_seconds_total', %label)), $account->{memory_byte_ms}, "$key: memory");
    is(sprintf('%.12f', $account->{gb_seconds}), sprintf('%.12f', $account->{memory_byte_ms} / 1e12),
        "$key: GB-seconds");
    is(billion(sample('peak_cores', %label)), billion($account->{peak_cores}), "$key: peak");
    like(sample("window_$_->[0]", %label, window => $_->[1]), qr/^\d+\.\d{9}$/, "$key: @$_")
        for map { my $name = $_; map { [ $name, $_ ] } qw(6s 60s) } qw(in_flight requests_per_second cores);
}
my @lines = lines_of($log);
sums_are_counters(sums_of(@lines)->{hosts}, counters_of($t, 'hosts'), 'sums of the lines are the counters');
peaks_are_peaks($t, 'hosts', 'the highest peaks of the lines are the peaks', $log);
my @silent = grep { $_->{key} eq 'session.test' && $_->{requests} == 0 && $_->{active_ms} > 0 } @lines;
cmp_ok(scalar @silent, '>=', 3, 'a silent session has lines before it ends');
is(scalar(grep { $_->{active_ms} > $_->{interval_ms} + 1100 } @lines), 0,
    'no active interval is longer than that of its line');
is(scalar(grep { $_->{peak_cpu_ns} > 0 } grep { $_->{key} eq 'api.test' } @lines) > 1, 1, 'each interval has its peak');

# Arguments
my $answer = sub { return JSON::PP::decode_json($t->get("/?format=json&$_[0]", port => 'status')->{body})->{zones} };
my $one = $answer->('zone=hosts&key=api.test');
is_deeply([ map { $one->{hosts}{keys}{'api.test'}{$_} } @measures ], [ map { $json->{'api.test'}{$_} } @measures ],
    '?key= has the measures of the key');
ok(exists $one->{hosts}{keys}{'api.test'}{windows}, 'and its windows');
ok(!exists $one->{hosts}{windows}, 'and not those of the zone');
my $low = $answer->('zone=hosts&detail=low');
is_deeply([ map { $low->{hosts}{keys}{'api.test'}{$_} } @measures ], [ map { $json->{'api.test'}{$_} } @measures ],
    'low detail has the measures');
ok(!exists $low->{hosts}{windows} && !exists $low->{hosts}{keys}{'api.test'}{windows}, 'but no windows');
($samples) = $t->prometheus('detail=low');
is(billion(sample('billable_seconds_total', zone => 'hosts', key => 'api.test')), $json->{'api.test'}{billable_cpu_ns},
    'for Prometheus too');
is(scalar(grep { $_->[0] =~ /window/ } @$samples), 0, 'also without windows');

#
# Another threshold
#

ok($t->reload(http => http(threshold => 100)), 'a reload with another threshold');
busy('api.test', 1.5);
ok(rest('hosts', 'api.test'), 'then');
my $after = $t->account('hosts', 'api.test');
cmp_ok($after->{cpu_ns}, '>', $busy->{cpu_ns} + 1e7, 'there is more CPU');
is($after->{billable_cpu_ns}, $busy->{billable_cpu_ns}, 'of which nothing is billable');
is($after->{active_seconds}, $busy->{active_seconds}, 'in seconds that are not active');
ok($t->reload(http => http()), 'and the default');
busy('api.test', 1.5);
ok(rest('hosts', 'api.test'), 'then');
cmp_ok($t->account('hosts', 'api.test')->{billable_cpu_ns}, '>', $after->{billable_cpu_ns} + 1e7, 'makes it billable');

#
# A worker that dies
#

my $cut = $t->connect('http');
$cut->request(@socket, host => 'cut.test');
$cut->response;
ok(wait_until(60, sub { $t->account('hosts', 'cut.test')->{active_ms} > 300 }), 'a session in a worker');
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);
kill KILL => $t->workers;
ok($cut->closed_within(30), 'that is killed');
my $before;
ok(wait_until(60, sub {
    my $its = eval { $t->account('hosts', 'cut.test') } or return;
    $before = $its->{active_ms};
    return $its->{in_flight} == 0;
}), 'is in flight no more');
sleep 1.2;
is($t->account('hosts', 'cut.test')->{active_ms}, $before, 'and its time is over');

#
# A restart
#

busy('api.test', 0.5);
$t->quiet;
sleep 0.2;
my $counters = counters_of($t, 'hosts');
my %cpu = map { $_ => $counters->{$_}{cpu_ns} } keys %$counters;
is($t->stop, 0, 'NGINX ends');
for my $file ($log, $endless) {
    my $sums = sums_of(lines_of($file))->{hosts};
    is_deeply({ map { $_ => $sums->{$_}{cpu_ns} } keys %cpu }, \%cpu, 'all CPU is in the log');
    is_deeply({ map { $_ => $sums->{$_}{billable_cpu_ns} + $sums->{$_}{waived_cpu_ns} } keys %cpu }, \%cpu,
        'with the last second');
}
my $sums = sums_of(lines_of($log))->{hosts};
$t->start(main => 'worker_processes 2;', http => http());
sums_are_counters($sums, counters_of($t, 'hosts'), 'and the state has the sums of the log');
is(sum(map { $_->{peak_cores} } values %{ $t->status->{zones}{hosts}{keys} }), 0, 'except peaks, which begin again');
$t->done;
