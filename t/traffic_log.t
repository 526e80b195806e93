# The traffic log: it has a line for each key that was active in an interval, and the sums of the lines are the
# counters.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::TrafficLog;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('large.txt', 'x' x 400_000);
my ($log, $slow, $small) = map { $t->dir . "/$_.log" } qw(traffic slow small);
mkdir $t->dir . '/logs';

# Intervals end at multiples of their length since 1970: an interval of an hour would end during the test at a full
# hour. The longest interval ends in 2030.
my %part = (main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$host\$arg_k zone=hosts:1m;
    request_cpu_zone \$arg_k zone=small:32k;
    request_cpu zone=hosts zone=small;
    request_cpu_log traffic.log zone=hosts interval=1s;
    request_cpu_log {{dir}}/slow.log zone=hosts interval=3660d;
    request_cpu_log small.log zone=small interval=1s;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location /moved { return 301 /; }
        location /broken { return 500; }
        location /none { return 444; }
        location = /large.txt { limit_rate 60k; }
    }
EOC
my $began = time;
$t->start(%part);
is((stat $log)[7], 0, 'NGINX creates the file');

sub sums { return sums_of(lines_of(@_)) }

# Waits until the log has all counts of a zone, which takes a few seconds
sub settles {
    my ($zone, $file, $name) = @_;
    # the CPU of a second becomes billable or waived when the second is over; that may make one more line
    final_counters_of($t, $zone);
    my $fine = wait_until(60, sub { !unwritten(sums($file)->{$zone} || {}, final_counters_of($t, $zone)) });
    sums_are_counters(sums($file)->{$zone} || {}, final_counters_of($t, $zone), $name);
    return $fine;
}

$t->get('/a.txt', host => 'one.test') for 1 .. 20;
$t->get('/nothing', host => 'one.test') for 1 .. 3;
$t->get('/a.txt', host => 'two.test') for 1 .. 5;
$t->get('/moved', host => 'two.test');
$t->get('/broken', host => 'two.test');
eval { $t->get('/none', host => 'two.test') };
settles('hosts', $log, 'sums of the lines are the counters');
my $sums = sums($log)->{hosts};
is_deeply([ @{ $sums->{'one.test'} }{qw(requests 2xx 4xx 5xx)} ], [ 23, 20, 3, 0 ], 'with the classes of the answers');
is_deeply([ @{ $sums->{'two.test'} }{qw(requests 2xx 3xx 5xx)} ], [ 8, 5, 1, 1 ], 'all of them');
cmp_ok($sums->{'one.test'}{$_}, '>', 0, "and $_") for qw(cpu_ns wakeups sent_bytes received_bytes);

# The content of the lines
my @lines = lines_of($log);
my $host = lc((POSIX::uname())[1]);
is_deeply([ grep { $_->{host} ne $host } @lines ], [], 'each line names the machine');
is_deeply([ grep { $_->{zone} ne 'hosts' } @lines ], [], 'and the zone');
is(scalar(grep { $_->{requests} != sum(map { $_ || 0 } @$_{qw(1xx 2xx 3xx 4xx 5xx other)}) } @lines), 0,
    'classes add up to the requests');
# on a busy machine, a worker may be late
my $on_time = wait_until(60, sub {
    return 1 if grep { $_->{time} =~ /:\d\d\.000Z$/ } lines_of($log);
    $t->get('/a.txt', host => 'two.test');
    sleep 0.3;
    return;
});
ok($on_time, 'intervals end at whole seconds');
settles('hosts', $log, 'all of this is in the log');
@lines = lines_of($log);
is(scalar(grep { $_->{interval_ms} < 1 || $_->{interval_ms} > 1000 * (time - $began) + 1000 } @lines), 0,
    'and have a length');

# Only active keys have lines
my $before = @lines;
$t->get('/a.txt', host => 'two.test');
settles('hosts', $log, 'a key that goes on');
my @new = splice @{ [ lines_of($log) ] }, $before;
is_deeply([ keys %{ { map { $_->{key} => 1 } @new } } ], ['two.test'], 'is the only one that has new lines');
sleep 1.2;
is(scalar(lines_of($log)), $before + @new, 'if nothing is active, nothing is written');

# A running request
my $long = $t->connect('http');
$long->request('/large.txt', host => 'long.test');
ok(wait_until(60, sub { my $long = sums($log)->{hosts}{'long.test'}; $long && $long->{sent_bytes} > 0
    && $long->{requests} == 0 }),
    'a long request is seen while it is under way');
ok(wait_until(60, sub { grep { $_->{key} eq 'long.test' && $_->{interval_ms} < 2000 } lines_of($log) }),
    'and its lines are of its last interval');
$long->response;
$long->close;
settles('hosts', $log, 'to its end');

# Keys with any bytes
for my $key ('%22', '%5C', '%0A%09', '%FF%FE', '%00', '%E2%82%AC', '%C3%A4', 'a%20b', '%7B%22key%22%3A1%7D',
    'x' x 300) {
    $t->get("/a.txt?k=$key", host => 'strange.test');
}
# bytes of the variable: an argument is not decoded
my $odd = $t->connect('http');
$odd->send("GET /a.txt?k=\xFF\"\\\x{01}é HTTP/1.0\r\nHost: strange.test\r\n\r\n") if $odd->can('send');
$odd->close;
settles('hosts', $log, 'keys of strange text');

# A full zone
$t->get("/a.txt?k=key$_", host => 'many.test') for 1 .. 60;
settles('small', $small, 'a zone that is full');
cmp_ok(sums($small)->{small}{'*'}{requests}, '>', 10, 'has a line for *');
settles('hosts', $log, 'and the other zone all of its keys');
is(scalar(grep { $_->{zone} ne 'small' } lines_of($small)), 0, 'each log has its zone');

peaks_are_peaks($t, 'hosts', 'the highest peaks of the lines are the peaks', $log);
peaks_are_peaks($t, 'small', 'of a full zone too', $small);

# The end of NGINX
is(text_of($slow), '', 'a long interval is not over');
$t->get('/a.txt', host => 'last.test');
$t->account_with('hosts', 'last.test', 1);
$t->quiet;
my $counters = final_counters_of($t, 'hosts');
my $of_small = final_counters_of($t, 'small');
is($t->stop, 0, 'NGINX ends');
sums_are_counters(sums($log)->{hosts}, $counters, 'the unfinished interval is written');
sums_are_counters(sums($slow)->{hosts}, $counters, 'two logs of a zone have the same sums');
sums_are_counters(sums($small)->{small}, $of_small, 'so has the small one');
my @slow = lines_of($slow);
is(scalar(@slow), scalar(keys %$counters), 'a line for each key');
cmp_ok($slow[0]{interval_ms}, '<=', 1000 * (time - $began), 'which tells its true length');
my ($often, $once) = map { peaks_of(lines_of($_))->{hosts} } $log, $slow;
is_deeply($once, $often, 'and the peak of it all');

# Every signal that ends NGINX, and requests that it cuts
for my $signal (qw(TERM INT)) {
    unlink $log, $slow, $small;
    $t->start(%part, http => $part{http} =~ s/hosts:1m/hosts:1m state=logs\/state.$signal/r);
    my $cut = $t->connect('http');
    $cut->request('/large.txt', host => 'cut.test');
    ok(wait_until(60, sub { $t->account('hosts', 'cut.test')->{sent_bytes} > 0 }), 'a long request');
    is($t->stop(signal => $signal), 0, "that is cut short ($signal)");
    $cut->close;
    my ($saved) = text_of($t->dir . "/logs/state.$signal") =~ /^\["cut.test",\[(.*?)\]\]$/m;
    my @saved = split /,/, $saved;
    is_deeply([ @{ sums($_)->{hosts}{'cut.test'} }{qw(cpu_ns wakeups sent_bytes received_bytes)} ],
        [ @saved[ 0 .. 3 ] ],
        'is in the log as it is in the state') for $log, $slow;
    # loaded counts have been written before
    $t->start(%part, http => $part{http} =~ s/hosts:1m/hosts:1m state=logs\/state.$signal/r);
    is($t->stop, 0, 'a restart');
    is(sums($log)->{hosts}{'cut.test'}{cpu_ns}, $saved[0], 'writes nothing of it again');
}

# One process
unlink $log, $slow, $small;
$t->start(%part, main => 'worker_processes 1;', single_process => 1);
$t->get('/a.txt', host => 'one.test') for 1 .. 5;
$t->account_with('hosts', 'one.test', 5);
settles('hosts', $log, 'a single process writes the log');
$t->get('/a.txt', host => 'two.test');
$t->account_with('hosts', 'two.test', 1);
$t->quiet;
$counters = final_counters_of($t, 'hosts');
is($t->stop, 0, 'stop');
sums_are_counters(sums($_)->{hosts}, $counters, 'and its last part') for $log, $slow;

# The folder of the log
unlink $log, $slow, $small;
symlink 'traffic.log', $small;
$t->start(%part);
$t->get('/a.txt?k=1', host => 'one.test') for 1 .. 5;
settles('hosts', $log, 'two zones in one file, by two names');
settles('small', $small, 'both');
is($t->stop, 0, 'stop');

# A configuration test
unlink $log, $slow, $small;
$t->start(%part);
$t->get('/a.txt', host => 'one.test') for 1 .. 5;
$t->account_with('hosts', 'one.test', 5);
settles('hosts', $log, 'written');
my $text = text_of($log, $slow, $small);
is((run_command($t->{binary}, '-t', '-e', 'stderr', '-p', $t->dir . '/', '-c', $t->dir . '/nginx.conf'))[0], 0,
    'a configuration test');
is(text_of($log, $slow, $small), $text, 'writes nothing');

$t->expect_log(qr/zone "small" is full/);
$t->done;
