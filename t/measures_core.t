# Billing metrics with several workers, killed workers and workers that finish; and the start of a request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('proxy', 'rewrite');
$t->html('a.txt', "plain\n");
$t->html('slow.txt', 'x' x 400_000);
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);

my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection) = @_;
    $connection->send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    while (defined $connection->read_until(qr/\n/, 120)) { }
    return 0;
});

$t->start(main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /slow.txt { limit_rate 100k; limit_rate_after 1k; }
        location = /burn { @{[ burn_rules(4) ]} return 200 "burnt\\n"; }
        location = /socket {
            proxy_pass http://127.0.0.1:{{port:upstream}};
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 120s;
        }
    }
EOC

sub account { return $t->account('hosts', $_[0]) }
sub now_ms { return time * 1000 }

sub open_socket {
    my ($host) = @_;
    my $socket = $t->connect('http');
    $socket->request('/socket', host => $host, headers => { Upgrade => 'websocket', Connection => 'Upgrade' });
    is($socket->response->{status}, 101, "a connection of $host is upgraded");
    return $socket;
}

# A time that the account has seen between two observations: [ least, most ] that it can be, then its value
sub between {
    my ($host, $code) = @_;
    my $from = [ now_ms(), account($host), now_ms() ];
    $code->();
    my $to = [ now_ms(), account($host), now_ms() ];
    return ($to->[0] - $from->[2] - 3, $to->[2] - $from->[0] + 3, $from->[1], $to->[1]);
}

# --- a silent connection, and a second one, in any worker
my $began = now_ms();
my $socket = open_socket('silent.test');
my $opened = now_ms();
my ($least, $most, $first, $later) = between('silent.test', sub { sleep 2.5 });
my $grown = $later->{active_ms} - $first->{active_ms};
cmp_ok($grown, '>=', $least, 'a silent connection is active all the time');
cmp_ok($grown, '<=', $most, 'and no longer than it is there');
cmp_ok($later->{active_ms}, '<=', now_ms() - $began + 2, 'from when it was opened');
# durations are added each second
$grown = $later->{duration_ms} - $first->{duration_ms};
ok($grown >= $least - 1000 && $grown <= $most + 1000, 'its duration is the same, but for the running second')
    or diag($grown);

my @more = map { open_socket('silent.test') } 1 .. 3;
($least, $most, $first, $later) = between('silent.test', sub { sleep 2.2 });
$grown = $later->{active_ms} - $first->{active_ms};
ok($grown >= $least && $grown <= $most, 'four are active no longer than one')
    or diag("$grown, not within $least and $most");
$grown = $later->{duration_ms} - $first->{duration_ms};
ok($grown >= 4 * ($least - 1200) && $grown <= 4 * ($most + 1200), 'but each has a duration') or diag($grown);
cmp_ok($later->{memory_byte_ms}, '>', 1000 * $later->{duration_ms}, 'and holds memory');
cmp_ok($later->{memory_byte_ms}, '<', 1_000_000 * $later->{duration_ms}, 'as much as it has buffers');
is($later->{billable_cpu_ns}, 0, 'silence is not billable');
is($later->{active_seconds}, 0, 'and no second of it is active');
cmp_ok($later->{waived_cpu_ns}, '>', 0, 'the CPU is waived');
is($later->{in_flight}, 4, 'all are in flight');

$_->close for $socket, @more;
ok(wait_until(60, sub { account('silent.test')->{in_flight} == 0 }), 'until they are closed');
my $closed = account('silent.test');
sleep 1.2;
my $rest = account('silent.test');
is($rest->{active_ms}, $closed->{active_ms}, 'then no time is active');
is($rest->{duration_ms}, $closed->{duration_ms}, 'and nothing lasts');
is($rest->{billable_cpu_ns} + $rest->{waived_cpu_ns}, $rest->{cpu_ns}, 'all seconds are judged');
cmp_ok($rest->{active_ms}, '<=', $rest->{duration_ms} + 4, 'active time is not more than all durations');

# --- a header that arrives in parts
my $slow = $t->connect('http');
my $sent = now_ms();
$slow->send("GET /a.txt HTTP/1.1\r\nHost: parts.test\r\n");
sleep 1.3;
$slow->send("Connection: close\r\n\r\n");
is($slow->response->{status}, 200, 'a header came in two parts');
my $took = now_ms() - $sent;
my $parts = $t->account_with('hosts', 'parts.test', 1);
ok($parts->{duration_ms} >= 1250 && $parts->{duration_ms} <= $took + 10, 'the request began with the first one')
    or diag("$parts->{duration_ms} of $took");
ok($parts->{active_ms} >= 1250 && $parts->{active_ms} <= $took + 10, 'and was active since')
    or diag($parts->{active_ms});

# --- short requests
my $keep = $t->connect('http');
for (1 .. 200) { $keep->request('/a.txt', host => 'short.test'); $keep->response }
$keep->close;
my $short = $t->account_with('hosts', 'short.test', 200);
cmp_ok($short->{active_ms}, '>', 0, 'short requests are active');
cmp_ok($short->{active_ms}, '<=', 400 + $short->{duration_ms}, 'for no more milliseconds than they are in');
cmp_ok($short->{duration_ms} * 1e6, '>=', $short->{cpu_ns} * 0.3, 'and last about as long as they use CPU')
    or diag(explain($short));

# --- a known amount of CPU
my $text = burn_text(20);
my @burns = map { $t->get("/burn?x=$text", host => 'burn.test')->{status} } 1 .. 3;
is_deeply(\@burns, [ (200) x 3 ], 'CPU is burnt');
$t->account_with('hosts', 'burn.test', 3);
sleep 1.1;
my $burnt = account('burn.test');
is($burnt->{billable_cpu_ns} + $burnt->{waived_cpu_ns}, $burnt->{cpu_ns}, 'all of it is billable or waived');
cmp_ok($burnt->{billable_cpu_ns}, '>=', 0.9 * $burnt->{cpu_ns}, 'nearly all billable');
cmp_ok($burnt->{active_seconds}, '>=', 1, 'in some active seconds');
cmp_ok($burnt->{peak_cores}, '<=', 2, 'two workers have no more than two cores');
cmp_ok($burnt->{peak_cores} * 1e9 * $burnt->{active_seconds}, '>=', $burnt->{billable_cpu_ns} * 0.999,
    'and none of the seconds had more than the peak');

# --- a worker that is killed with many requests in flight
my @open = map { open_socket('killed.test') } 1 .. 4;
sleep 1.1;
my @old = $t->workers;
kill KILL => @old;
my $killed = now_ms();
ok(wait_until(60, sub { my @now = $t->workers; my %now = map { $_ => 1 } @now; @now == 2 && !grep { $now{$_} } @old }),
    'both workers are killed, and replaced');
my $dead = account('killed.test');
my $noticed = now_ms();
is($dead->{in_flight}, 0, 'their requests are not in flight any more');
sleep 1.5;
my $still = account('killed.test');
is($still->{active_ms}, $dead->{active_ms}, 'and not active');
cmp_ok($dead->{active_ms}, '>=', 1000, 'but they were');
$_->close for @open;

# --- one of two workers is killed: requests of the other one continue
@open = map { open_socket('half.test') } 1 .. 12;
($least, $most, $first, $later) = between('half.test', sub {
    my ($one) = $t->workers;
    kill KILL => $one;
    ok(wait_until(60, sub { my @now = $t->workers; @now == 2 && !grep { $_ == $one } @now }),
        'one of two workers is killed');
    sleep 2.5;
});
SKIP: {
    skip 'all connections were in one worker', 1 unless $later->{in_flight};
    $grown = $later->{active_ms} - $first->{active_ms};
    ok($grown >= $least - 1000 && $grown <= $most, "what the other has stays active")
        or diag("$grown, not within $least and $most");
}
$_->close for @open;
ok(wait_until(60, sub { account('half.test')->{in_flight} == 0 }), 'until it is closed');

# --- a worker that is told to finish continues to count in the same accounts
my $long = open_socket('finish.test');
@old = $t->workers;
$t->reload;
($least, $most, $first, $later) = between('finish.test', sub { sleep 2.2 });
$grown = $later->{active_ms} - $first->{active_ms};
ok($grown >= $least && $grown <= $most, 'a request of a worker of before is active')
    or diag("$grown, not within $least and $most");
is($later->{in_flight}, 1, 'and in flight');
my @finishing = grep { kill 0 => $_ } @old;
cmp_ok(scalar @finishing, '>=', 1, 'its worker waits for it');

# no process takes its slot: another worker must find out
kill KILL => @finishing;
ok(wait_until(60, sub { $t->get('/a.txt', host => 'other.test'); account('finish.test')->{in_flight} == 0 }),
    'it is killed, and that is found out');
my $ended = account('finish.test');
sleep 1.2;
is(account('finish.test')->{active_ms}, $ended->{active_ms}, 'nothing is active any more');
$long->close;

# --- no counter ever decreases, whichever worker is killed
my @hosts = map { "host$_.test" } 1 .. 3;
my (%last, $fell);
my @held = map { open_socket($hosts[ $_ % 3 ]) } 1 .. 6;
for my $round (1 .. 12) {
    if ($round % 4 == 0) { my ($victim) = $t->workers; kill KILL => $victim }
    for my $host (@hosts) {
        $t->get('/a.txt', host => $host, timeout => 10) if $round % 4;
        my $now = account($host);
        for my $name (qw(active_ms duration_ms active_seconds billable_cpu_ns waived_cpu_ns memory_byte_ms peak_cores cpu_ns)) {
            next unless defined $now->{$name};
            $fell = "$host $name" if $now->{$name} < ($last{$host}{$name} || 0);
            $last{$host}{$name} = $now->{$name};
        }
        $fell = "$host judged" if ($now->{billable_cpu_ns} || 0) + ($now->{waived_cpu_ns} || 0) > $now->{cpu_ns};
    }
    sleep 0.25;
}
is($fell, undef, 'no measure falls, and no more CPU is judged than there is');
$_->close for @held;

$t->stop;
done_testing();
