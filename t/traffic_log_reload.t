# The traffic log over reloads, rotations and binary upgrades: no line is lost, and none is written twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::TrafficLog;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('slow.txt', 'x' x 60_000);
$t->html('held.txt', 'x' x 100_000);
my $log = $t->dir . '/traffic.log';

sub http {
    my (%change) = @_;
    my ($size, $state) = ($change{size} || '1m', $change{state} || '');
    my $logs = defined $change{logs} ? $change{logs} : 'request_cpu_log traffic.log zone=hosts interval=1s;';
    return <<"EOC";
    request_cpu_zone \$host zone=hosts:$size $state;
    request_cpu zone=hosts;
    $logs
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /slow.txt { limit_rate 8k; }
        location = /held.txt { limit_rate 2k; }
    }
EOC
}

sub sums { return sums_of(lines_of(@_))->{hosts} || {} }

sub ask {
    my ($host, $count) = @_;
    $t->get('/a.txt', host => $host) for 1 .. $count;
}

# Waits until these files have all counts, which takes a few seconds. Keys with requests in flight are left out.
sub settles {
    my ($name, @files) = @_;
    my ($sums, $counters);
    wait_until(12, sub {
        ($sums, $counters) = (sums(@files), counters_of($t, 'hosts'));
        my $keys = $t->status->{zones}{hosts}{keys};
        delete @$_{ grep { $keys->{$_}{in_flight} } keys %$keys } for $sums, $counters;
        return !unwritten($sums, $counters);
    });
    sums_are_counters($sums, $counters, $name);
}

sub slow {
    my ($host, $uri) = @_;
    my $connection = $t->connect('http');
    $connection->request($uri || '/slow.txt', host => $host);
    wait_until(60, sub { $t->account('hosts', $host)->{in_flight} == 1 });
    return $connection;
}

sub finish {
    my ($connection) = @_;
    my $length = length $connection->response->{body};
    $connection->close;
    wait_until(60, sub { !$t->workers(old => 1) });
    return $length;
}

my %part = (main => 'worker_processes 2;', http => http());
$t->start(%part, daemon => 1);
ask('one.test', 10);
settles('before', $log);

# A reload
my $slow = slow('slow.test');
ok($t->reload, 'a reload');
ask('one.test', 10);
is(scalar($t->workers(old => 1)), 1, 'beside an old worker');
settles('changes nothing', $log) for 1 .. 2;
is(finish($slow), 60_000, 'the old one ends');
settles('with it neither', $log);

# Another interval
ok($t->reload(http => http(logs => 'request_cpu_log traffic.log zone=hosts interval=3660d;')), 'a longer interval');
ask('one.test', 10);
$t->account_with('hosts', 'one.test', 30);
my $before = text_of($log);
sleep 1.5;
is(text_of($log), $before, 'is waited for');
ok($t->reload(http => http()), 'a shorter one');
settles('is not', $log);

# Another file: the log continues there
my $other = $t->dir . '/other.log';
ask('one.test', 3);
ok($t->reload(http => http(logs => 'request_cpu_log other.log zone=hosts interval=1s;')), 'another file');
ask('two.test', 3);
settles('has the lines that the first does not have', $log, $other);
$before = text_of($log);
ask('two.test', 3);
settles('and later lines', $log, $other);
is(text_of($log), $before, 'the first one stays as it is');
my $third = $t->dir . '/third.log';
my $since = counters_of($t, 'hosts');

peaks_are_peaks($t, 'hosts', 'peaks are in one or the other', $log, $other);

# One more log, and one less. The CPU of a second is classified when the second is over; after that there are no new
# lines for this domain
ok(wait_until(60, sub { my $its = $t->account('hosts', 'two.test');
    $its->{billable_cpu_ns} + $its->{waived_cpu_ns} == $its->{cpu_ns} }), 'the last second is over');
settles('with the class of its CPU', $log, $other);
ok($t->reload(http =>
    http(logs => 'request_cpu_log other.log zone=hosts interval=1s; request_cpu_log third.log zone=hosts interval=3660d;')), 'a second log');
ask('three.test', 7);
$t->account_with('hosts', 'three.test', 7);
settles('leaves the first as it is', $log, $other);
my $held = slow('other.test', '/held.txt');
ok($t->reload(http => http(logs => 'request_cpu_log other.log zone=hosts interval=1s;')), 'and goes');
ok(wait_until(60, sub { (stat $third)[7] > 0 }), 'with the lines that it had not written');
is_deeply([ grep { !/other/ } keys %{ sums($third) } ], ['three.test'], 'since it was there');
wait_until(60, sub { sums($third)->{'three.test'}{requests} >= 7 });
is(sums($third)->{'three.test'}{requests}, 7, 'all of it');
ask('three.test', 4);
settles('and the first one goes on', $log, $other);
ok($t->reload(http =>
    http(logs => 'request_cpu_log other.log zone=hosts interval=1s; request_cpu_log third.log zone=hosts interval=1s;')), 'it comes again');
ask('three.test', 5);
ok(wait_until(60, sub { sums($third)->{'three.test'}{requests} > 7 }), 'and goes on');
is(scalar($t->workers(old => 1)), 1, 'while there are old workers');
$held->close;
ok(wait_until(60, sub { !$t->workers(old => 1) }), 'until they are gone');
settles('all is in the first one', $log, $other);
wait_until(60, sub { sums($third)->{'three.test'}{requests} >= 12 });
is(sums($third)->{'three.test'}{requests}, 12, 'and the other one has the counts of its time once');
ok($t->reload(http => http(logs => 'request_cpu_log other.log zone=hosts interval=1s;')), 'one log again');

# Accounts keep the peaks of each log by its number. A remaining log keeps its number, and a new log gets another one
my $fourth = $t->dir . '/fourth.log';
ok($t->reload(http =>
    http(logs => 'request_cpu_log fourth.log zone=hosts interval=1s; request_cpu_log other.log zone=hosts interval=1s;')),
        'a log before another');
my @peak = map { "peak$_.test" } 1 .. 3;
for my $host (@peak) { ask($host, 5); sleep 0.7 }
final_counters_of($t, 'hosts');
settles('both go on', $log, $other);
my $keys = $t->status->{zones}{hosts}{keys};
for my $file ($fourth, $other) {
    ok(wait_until(60, sub { sums($file)->{ $peak[2] }{waived_cpu_ns} }), 'to the end');
    my $peaks = peaks_of(lines_of($file))->{hosts};
    is_deeply([ @$peaks{@peak} ], [ map { sprintf '%.0f', $keys->{$_}{peak_cores} * 1e9 } @peak ],
        'and have all peaks');
}
ok($t->reload(http => http(logs => 'request_cpu_log other.log zone=hosts interval=1s;')), 'one log again');

# Rotation
my $old = "$other.1";
$slow = slow('slow.test');
ask('one.test', 5);
rename $other, $old;
ask('two.test', 5);
settles('a file that is renamed is written on', $log, $old);
kill USR1 => $t->master;
ok(wait_until(60, sub { -e $other }), 'and opened again with USR1');
ask('one.test', 5);
is(finish($slow), 60_000, 'while a request goes on');
settles('nothing is lost', $log, $old, $other);
ok((stat $other)[7] > 0, 'later lines are in the new file');
ask('one.test', 5);
settles('and after that', $log, $old, $other);
unlink $other;
kill USR1 => $t->master;
ok(wait_until(60, sub { -e $other }), 'a file that was deleted is made again');
ask('late.test', 5);
$t->account_with('hosts', 'late.test', 5);
ok(wait_until(60, sub { (sums($other)->{'late.test'}{requests} || 0) == 5 }), 'and written');
is($t->stop, 0, 'stop');

# Copied and truncated, without requests
unlink $log, $other, $old;
$t->start(%part, daemon => 1);
for my $round (1 .. 3) {
    ask("round$round.test", 5);
    settles('before it is cut', $log, $old);
    open my $copy, '>>', $old;
    print {$copy} text_of($log);
    close $copy;
    truncate $log, 0;
    ask('one.test', 5);
    settles('a file that is copied and cut', $log, $old);
}
unlike(text_of($log), qr/\0/, 'has no hole');

# Another size of the zone: old workers count in the old zone, and write its counts
ask('one.test', 3);
$t->account_with('hosts', 'one.test', 18);
$slow = slow('slow.test');
ok($t->reload(http => http(size => '2m')), 'another size');
ask('one.test', 3);
is(finish($slow), 60_000, 'a request that is counted in the zone of before');
is($t->account_with('hosts', 'one.test', 21)->{requests}, 21, 'and others in the new one');
ok(wait_until(60, sub { sums($log, $old)->{'one.test'}{requests} == 21 }), 'are in the log');
is(sums($log, $old)->{'slow.test'}{requests}, 1, 'with counts of workers that have ended');
cmp_ok(sums($log, $old)->{'slow.test'}{sent_bytes}, '>', 60_000, 'all of it');
ask('one.test', 3);
$t->account_with('hosts', 'one.test', 24);
$t->quiet;
my ($in_log, $counted) = (sub { sums($log, $old)->{'one.test'} }, sub { counters_of($t, 'hosts')->{'one.test'} });
ok(wait_until(60, sub { $in_log->()->{requests} == 24 }), 'and later counts');

# The zone is removed
ask('two.test', 3);
$t->account_with('hosts', 'two.test', 3);
my $without = http(logs => '') =~ s/request_cpu_zone .*//r =~ s/request_cpu zone=hosts;//r;
ok($t->reload(http => $without), 'no zone any more');
ok(wait_until(60, sub { (sums($log, $old)->{'two.test'}{requests} || 0) == 3 }), 'its counts are written');
is($t->stop, 0, 'stop');

# A binary upgrade, under load
unlink $log, $old;
$t->start(%part, daemon => 1);
$slow = slow('slow.test');
my @clients = map { detached(sub {
    my ($end, $sent) = (time + 5, 0);
    while (time < $end) { $sent++ if eval { $t->get('/a.txt', host => 'load.test')->{status} == 200 } }
    return $sent;
}) } 1 .. 2;
sleep 0.5;
ok($t->upgrade, 'a new binary');
sleep 2.5;
is($t->retire, 0, 'takes over');
is(length $slow->response->{body}, 60_000, 'a request outlasts it');
$slow->close;
my $sent = sum(map { $_->result } @clients);
$t->account_with('hosts', 'load.test', $sent);
settles('all is written, and nothing twice', $log);
cmp_ok(sums($log)->{'load.test'}{requests}, '>=', $sent, 'the counts of old and new workers');
ok($t->upgrade, 'a new binary');
ask('one.test', 5);
ok($t->take_back, 'that is told to go');
ask('one.test', 5);
settles('and the old one goes on', $log);
ok($t->reload, 'a reload');
ask('one.test', 5);
settles('then', $log);
ask('one.test', 5);
$t->account_with('hosts', 'one.test', 15);
ok($t->upgrade(http => http(size => '2m')), 'a new binary with another size');
ask('one.test', 5);
is($t->retire, 0, 'takes over');
ask('one.test', 5);
$t->account_with('hosts', 'one.test', 25);
ok(wait_until(60, sub { sums($log)->{'one.test'}{requests} >= 30 }), 'all is in the log');
is(sums($log)->{'one.test'}{requests}, 30, 'once');
my $counters = counters_of($t, 'hosts')->{'one.test'};
# workers of both binaries accept; requests that old workers have ended after the upgrade are not in the new memory
cmp_ok($counters->{requests}, '>=', 25, 'the new memory has all but counts of old workers');
cmp_ok($counters->{requests}, '<=', 30, 'and nothing twice');
is($t->stop, 0, 'stop');

# Upgrades to another file, at once and after a reload. No line is written twice while old and new workers run
unlink $log, $other, $third;
$t->start(%part, daemon => 1);
my $to = sub { my ($file) = @_;
    return http(logs => "request_cpu_log $file zone=hosts interval=1s; request_cpu_log endless.log zone=hosts interval=3660d;") };
ok($t->reload(http => $to->('other.log')), 'a reload to another file');
ask('one.test', 5);
settles('changes nothing', $log, $other);
ok($t->upgrade, 'nor does an upgrade after that');
for my $n (1 .. 3) { ask("key$n.test", 3); sleep 0.7 }
is($t->retire, 0, 'to its end');
settles('all is there', $log, $other);
ok($t->upgrade(http => $to->('third.log')), 'an upgrade to another file');
for my $n (4 .. 6) { ask("key$n.test", 3); sleep 0.7 }
is($t->retire, 0, 'to its end');
settles('neither', $log, $other, $third);
peaks_are_peaks($t, 'hosts', 'nor is a peak lost', $log, $other, $third);
my $memories = sub { my ($pid) = @_; return scalar grep { defined && /request_cpu/ }
    map { readlink } glob "/proc/$pid/fd/*" };
is($memories->($t->master), 4, 'memory of a zone, of the worker totals, and of two logs');
is($memories->($_), 0, 'which workers have not open') for $t->workers;
$t->quiet;
$counters = final_counters_of($t, 'hosts');
is($t->stop, 0, 'stop');
sums_are_counters(sums($t->dir . '/endless.log'), $counters, 'a log that came with a reload has all since then');

# Workers of another user, in a folder that they cannot even read
SKIP: {
    skip('only root can be another user', 6) if $> != 0;
    my $folder = $t->dir . '/private';
    mkdir $folder, 0700;
    my ($file, $rotated) = ("$folder/traffic.log", "$folder/traffic.log.1");
    my $group = getgrgid((getpwnam 'nobody')[3]);
    my $raw = $t->_config(%part,
        http => http(logs =>
            'request_cpu_log private/traffic.log zone=hosts interval=1s;')) =~ s/user root;/user nobody $group;/r;
    chmod 0777, glob $t->dir . '/temp';
    $t->start(raw => $raw);
    ask('one.test', 5);
    settles('workers of the user nobody write a file of root', $file);
    rename $file, $rotated;
    # as logrotate does with "create", since this user cannot make files there
    chmod 0711, $folder;
    kill USR1 => $t->master;
    ok(wait_until(60, sub { -e $file && (stat $file)[4] == getpwnam 'nobody' }), 'a new file is theirs');
    ask('one.test', 5);
    settles('and written', $file, $rotated);
    ok((stat $file)[7] > 0, 'in its turn');
    my $slow = slow('slow.test');
    ok($t->reload, 'a reload');
    finish($slow);
    settles('changes nothing', $file, $rotated);
    is($t->stop, 0, 'stop');
}
$t->done;
