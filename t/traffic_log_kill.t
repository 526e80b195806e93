# The traffic log when its writer is killed: each line is there exactly once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::TrafficLog;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);
$t->html('a.txt', "plain\n");
my ($log, $hosts, $endless) = map { $t->dir . "/$_.log" } qw(traffic hosts endless);

# Enough keys for many batches: one pass takes some milliseconds
my $keys = 5000;
my %part = (main => 'worker_processes 3;', log => 0, http => <<"EOC");
    request_cpu_zone \$arg_k zone=keys:8m state=state;
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=keys zone=hosts;
    request_cpu_log traffic.log zone=keys interval=1s;
    request_cpu_log hosts.log zone=hosts interval=1s;
    request_cpu_log endless.log zone=keys interval=3660d;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 204; }
    }
EOC
$t->start(%part);

sub sums { return sums_of(lines_of(@_)) }

# Sends many requests at once. The number of answers is unknown when workers are killed.
sub load {
    my ($seconds) = @_;
    my $end = time + $seconds;
    while (time < $end) {
        my $connection = eval { $t->connect('http', timeout => 20) } or next;
        for my $round (1 .. 30) {
            my $text = join '', map { "GET /?k=" . int(rand $keys) . " HTTP/1.1\r\nHost: load.test\r\n\r\n" } 1 .. 200;
            last if time > $end || !$connection->send($text);
            my $got = 0;
            while ($got < 200) {
                my $answer = eval { $connection->response } or last;
                $got++;
            }
            last if $got < 200;
        }
        $connection->close;
    }
    return 1;
}

# Waits until nothing more is written.
sub rests {
    my ($file) = @_;
    my ($size, $since) = (-s $file, time);
    wait_until(60, sub {
        my $now = -s $file;
        ($size, $since) = ($now, time) if $now != $size;
        return time - $since > 2.5;
    });
}

my $seconds = $ENV{TEST_KILL_SECONDS} || 10;
my @clients = map { detached(sub { srand; load($seconds) }) } 1 .. 2;
my ($end, $kills) = (time + $seconds, 0);
# Writers work when a second ends. Then all or some workers are killed; or one is killed at any other time.
while (time < $end - 1) {
    my $after = rand(0.015) - 0.001;
    my $at = POSIX::ceil(time + 0.05) + $after;
    $at = time + rand if rand > 0.8;
    my $left = $at - time;
    sleep $left if $left > 0;
    my @pids = $t->workers;
    @pids = $pids[ rand @pids ] if rand > 0.7 && @pids;
    $kills += kill KILL => @pids;
}
$_->result for @clients;
cmp_ok($kills, '>', 10, "$kills workers were killed");
ok(wait_until(60, sub { $t->workers == 3 }), 'there are three in the end');
$t->quiet;

rests($log);
my $sums = sums($log);
my $counters = final_counters_of($t, 'keys');
sums_are_counters($sums->{keys}, $counters, 'sums of the lines are the counters');
sums_are_counters(sums($hosts)->{hosts}, counters_of($t, 'hosts'), 'in the other zone too');
peaks_are_peaks($t, 'keys', 'no peak is lost', $log);
my $requests = sum(map { $_->{requests} } values %$counters);
cmp_ok($requests, '>', 2000, "of $requests requests");
my %seen;
my @twice = grep { $seen{"$_->{zone} $_->{key} $_->{time}"}++ } lines_of($log);
is(scalar(@twice), 0, 'no line is there twice');
diag(sprintf '%d kills, %d lines, %d requests', $kills, scalar(lines_of($log)), $requests) if $ENV{TEST_KILL_SECONDS};

is($t->stop, 0, 'NGINX ends');
sums_are_counters(sums($endless)->{keys}, $counters, 'a log that was not due has them all');

# All workers are killed: the new ones append to the existing file
$t->start(%part);
load(1);
$t->quiet;
rests($log);
$sums = sums($log)->{keys};
cmp_ok(sum(map { $_->{requests} } values %$sums), '>', $requests, 'written again');
my @all = ($t->master, $t->workers);
kill KILL => @all;
waitpid delete $t->{pid}, 0;
wait_until(60, sub { !kill 0, @all });
$t->start(%part);
load(1);
$t->quiet;
is($t->stop, 0, 'after a kill of all, and another start');
ok(eval { lines_of($log); 1 }, 'all lines are whole') or diag($@);
$t->done;
