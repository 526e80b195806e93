# A file keeps counters over a stop and a start.

use strict;
use warnings;

BEGIN { $ENV{TEST_TIME_LIMIT} ||= 600 }    # disks that hang are waited for

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Preload;
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime sleep time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
mkdir $t->dir . '/state';
my $file = $t->dir . '/state/hosts';

sub http {
    my (%change) = @_;
    my ($key, $size, $state) = ($change{key} || '$host', $change{size} || '1m',
        defined $change{state} ? $change{state} : 'state=state/hosts');
    return <<"EOC";
    request_cpu_zone $key zone=hosts:$size $state;
    request_cpu_zone \$arg_k zone=keys:1m state={{dir}}/state/keys;
    request_cpu zone=hosts zone=keys;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
    }
EOC
}

# The counters of an account when its last second is over. Its current load and its peaks are not kept.
sub counters {
    my ($zone) = @_;
    my $keys;
    wait_until(60, sub {
        $keys = $t->status->{zones}{$zone}{keys};
        return !grep { $_->{billable_cpu_ns} + $_->{waived_cpu_ns} != $_->{cpu_ns} } values %$keys;
    });
    for my $account (values %$keys) { delete @$account{qw(cores in_flight windows peak_cores)} }
    return $keys;
}

sub ask {
    my ($host, $count, $query) = @_;
    $t->get('/a.txt' . ($query || ''), host => $host) for 1 .. $count;
}

sub requests { my ($key, $least) = @_; return $t->account_with('hosts', $key, $least || 0)->{requests} }

sub files {
    my @names = map { s{.*/}{}r } glob $t->dir . '/state/* ' . $t->dir . '/state/.*[!.]*';
    return [ sort @names ];
}

# A running server has a lock beside each state file.
sub unlocked { return [ grep { !/\.lock$/ } @{ files() } ] }

sub contents { return { map { $_ => $t->slurp($t->dir . "/state/$_") } @{ files() } } }

sub lines { my ($pattern) = @_; return scalar grep { /$pattern/ } split /\n/, $t->error_log }

my %part = (main => 'worker_processes 2;', http => http());
$t->start(%part);
# an emulator may read the clock of CPU time too slowly
my $faults = $ENV{TEST_NGINX_EMULATED} ? qr/\[(?:warn|error)\](?! .*the clock of CPU time)/ : qr/\[(?:warn|error)\]/;
is(lines($faults), 0, 'a start without a file is nothing to speak of');
ask('one.test', 20, '?k=a');
ask('two.test', 5, '?k=%FF%00%22');
$t->get('/none', host => 'two.test');
requests('one.test', 20);
requests('two.test', 6);
my $hosts = counters('hosts');
my $keys = counters('keys');

# Every way to stop
for my $signal (qw(QUIT TERM INT)) {
    is($t->stop(signal => $signal), 0, "NGINX ends ($signal)");
    is_deeply(files(), [ 'hosts', 'keys' ], 'and leaves a file for each zone, and nothing else');
    is((stat $file)[2] & 0777, 0600, 'for its user only');
    $t->start(%part);
    is_deeply(counters('hosts'), $hosts, 'accounts are as they were');
    is_deeply(counters('keys'), $keys, 'with keys of any bytes');
}
cmp_ok(lines(qr/\[notice\].*"hosts": 2 accounts restored/), '>', 0, 'the log says how many');
is($t->account('hosts', 'one.test')->{in_flight}, 0, 'nothing is in flight');
ask('one.test', 5);
is(requests('one.test', 25), 25, 'and they go on');
ok($t->reload, 'a reload');
is(requests('one.test', 25), 25, 'takes nothing away, and counts nothing twice');

# A configuration test
$hosts = counters('hosts');
my $before = contents();
sub test_config {
    return run_command($t->{binary}, '-t', '-e', 'stderr', '-p', $t->dir . '/', '-c', $t->dir . '/nginx.conf');
}
is((test_config())[0], 0, 'a configuration test while it runs');
is_deeply(contents(), $before, 'touches no file');
is_deeply(counters('hosts'), $hosts, 'and no account');

# Once a minute. A worker looks at the time when it begins, so the test sets the time of the next save back, and
# reloads. The time is in the header of the table (Table::claim_save).
sub set_header {
    my ($at, $value) = @_;
    my ($fd) = grep { (readlink || '') =~ /^\/memfd:request_cpu:hosts / } glob '/proc/' . $t->master . '/fd/*';
    open my $memory, '+<', $fd or die "$fd: $!\n";
    binmode $memory;
    seek $memory, $at, 0;
    print {$memory} pack 'Q', $value;
    close $memory;
}

sub set_due { set_header(88, 1) }

set_due();
ok($t->reload, 'a minute is over');
ok(wait_until(60, sub { $t->slurp($file) ne $before->{hosts} }), 'a worker saves the accounts');
is($t->slurp($t->dir . '/state/keys'), $before->{keys}, 'of the zone that was due');
is_deeply(files(), [ 'hosts', 'hosts.lock', 'keys', 'keys.lock' ], 'and leaves nothing else but the locks');
ask('one.test', 5);
requests('one.test', 30);
my @killed = ($t->master, $t->workers);
kill KILL => @killed;
waitpid delete $t->{pid}, 0;
wait_until(60, sub { !kill 0, @killed });
$t->start(%part);
is_deeply(counters('hosts'), $hosts, 'master and workers are killed: the saved counters are back');
is($t->stop, 0, 'stop');

# Files of a writer that was killed
my $dead = fork;
POSIX::_exit(0) if defined $dead && !$dead;
waitpid $dead, 0;
$t->write_file("$file.tmp-$dead", 'half');
$t->write_file("$file.tmp-$$", 'of one that lives');
$t->write_file("$file.tmp-x", 'of somebody else');
$t->start(%part);
is_deeply(unlocked(), [ 'hosts', "hosts.tmp-$$", 'hosts.tmp-x', 'keys' ],
    'a half written file is removed, if its writer is dead');
is($t->stop, 0, 'stop');
unlink "$file.tmp-$$", "$file.tmp-x";

# An empty file is a state without accounts: a package, or a mount of a container, has made the file
$t->write_file($file, '');
$t->start(%part);
is(lines(qr/\[(?:warn|error|emerg)\].*\Q$file/), 0, 'an empty file is nothing to speak of');
is(requests('one.test'), 0, 'counters begin at zero');
is($t->stop, 0, 'stop');
cmp_ok(-s $file, '>', 0, 'and it is written');

# Files of ours that are damaged
my $good = $t->slurp($file);
$t->start(%part);
ask('one.test', 1);
requests('one.test', 1);
is($t->stop, 0, 'stop');
$good = $t->slurp($file);
my $flipped = $good;
substr($flipped, length($good) / 2, 1) ^= "\x04";
my %bad = (
    truncated => substr($good, 0, -1),
    corrupt => $flipped,
    'of a later version' => $good =~ s/:1,/:2,/r,
);
my $count = 0;
for my $what (sort keys %bad) {
    $t->write_file($file, $bad{$what});
    my $files = contents();
    my ($status, $said) = test_config();
    is($status, 0, "a file that is $what: a configuration test is fine");
    like($said, qr/\[warn\].*\Q$file\E.*"hosts"/, 'warns');
    is_deeply(contents(), $files, 'and leaves it as it is');
    $t->start(%part);
    my $aside = 'hosts.bad' . ($count ? "-$count" : '');
    $count++;
    is(contents()->{$aside}, $bad{$what}, 'NGINX starts, and sets it aside');
    is(lines(qr/\[warn\].*\Q$file" is not used\E.*"hosts".*\/\Q$aside"/), 1, 'with a warning');
    is(requests('one.test'), 0, 'counters begin at zero');
    ask('one.test', 1);
    requests('one.test', 1);
    is($t->stop, 0, 'stop');
}
$t->start(%part);
is(requests('one.test'), 1, 'the next file is a good one');

# Files that are not ours, or that cannot be read, are left alone; NGINX does not start, and a reload fails
my %alien = (
    foreign => "root:x:0:0:root:/root:/bin/bash\n",
    'like ours at its start' => substr($good, 0, 10),
    'of one byte' => '{',
);
for my $what (sort keys %alien) {
    my $other = $t->dir . '/state/other';
    $t->write_file($other, $alien{$what});
    my $files = contents();
    my $conf = $t->slurp($t->dir . '/nginx.conf');
    $t->write_file($t->dir . '/nginx.conf', $conf =~ s{state/hosts\b}{state/other}r);
    my ($status, $said) = test_config();
    isnt($status, 0, "a file that is $what: a configuration test fails");
    like($said, qr/\[emerg\] .*invalid state file "\Q$other\E" in request_cpu_zone "hosts": it is not a state file/,
        'and says why');
    my $refused = lines(qr/\[emerg\].*\Q$other/);
    kill HUP => $t->master;
    ok(wait_until(60, sub { lines(qr/\[emerg\].*\Q$other/) > $refused }), 'a reload is refused');
    # the lock is removed after the message
    wait_until(60, sub { !-e "$other.lock" });
    is_deeply(files(), [ sort keys %$files ], 'nothing is set aside, and no lock is left');
    is($t->slurp($other), $alien{$what}, 'and the file is as it was');
    is(requests('one.test'), 1, 'the server goes on');
    unlink $other;
    $t->write_file($t->dir . '/nginx.conf', $conf);
}
$t->expect_log(qr/invalid state file/);
is($t->stop, 0, 'stop');
SKIP: {
    skip('only root can be another user', 4) if $> != 0;
    my $nobody = getpwnam 'nobody';
    my $readable = $t->slurp($file);
    my $room = $t->dir . '/nobody';
    mkdir $room;
    chmod 0777, $room;
    chmod 0755, $t->dir . '/state';
    $t->write_file("$room/nginx.conf", $t->fill(<<"EOC"));
load_module {{module}};
pid $room/pid;
error_log stderr;
events { }
http { access_log off; request_cpu_zone \$host zone=hosts:1m state=$file; }
EOC
    my ($status, $said) = run_command('setpriv', "--reuid=$nobody", '--clear-groups', $t->{binary}, '-t',
        '-e', 'stderr',
        '-p', "$room/", '-c', "$room/nginx.conf");
    isnt($status, 0, 'a file that may not be read: the configuration is refused');
    like($said, qr/\[emerg\].*\Q$file\E.*it cannot be read: Permission denied/, 'and the message says why');
    is($t->slurp($file), $readable, 'the file is as it was');
    is_deeply([ grep { /bad/ } @{ files() } ], [ map { 'hosts.bad' . ($_ ? "-$_" : '') } 0 .. $count - 1 ],
        'and not set aside');
}

# An empty log of this configuration looks like a new state file
for my $log ('access.log', 'error.log') {
    my $path = $t->dir . "/$log";
    rename $path, "$path.kept";
    my ($status, $said) = $t->try_config(%part, http => http(state => "state=$path"));
    isnt($status, 0, "a state file that is $log too is refused");
    like($said, qr/\[emerg\].*invalid state file "\Q$path\E".*(?:NGINX has it open|not a state file)/,
        'and the message says why');
    rename "$path.kept", $path;
}
$t->_write_config(%part);

# No free name is left for a damaged file: then the file stays, and nothing is written over it
$t->write_file("$file.bad-$_", '') for $count .. 99;
$t->write_file($file, $bad{corrupt});
$t->start(%part);
cmp_ok(lines(qr/\[warn\].*\Q$file\E" is not used.*cannot be set aside/), '>', 0, 'a file that cannot be set aside');
is($t->stop, 0, 'stop');
is($t->slurp($file), $bad{corrupt}, 'is not written over');
unlink glob "$file.bad*";

# A symbolic link stays, and its target is replaced
mkdir $t->dir . '/state/v';
unlink $file;
symlink 'v/real', $file or die "symlink: $!\n";
for my $what ('to a file that is not there yet', 'to a file') {
    $t->start(%part);
    my $before = requests('one.test');
    ask('one.test', 1);
    requests('one.test', $before + 1);
    is($t->stop, 0, 'stop');
    is(readlink $file, 'v/real', "a link $what stays");
    $t->start(%part);
    is(requests('one.test'), $before + 1, 'and its file has the counters');
    is($t->stop, 0, 'stop');
}
is_deeply([ map { s{.*/}{}r } glob $t->dir . '/state/v/*' ], ['real'], 'where the link leads there is nothing else');
my ($status, $said) = $t->try_config(%part, http => http() =~ s{state/keys}{state/v/real}r);
isnt($status, 0, 'two zones with the same file, by a link');
like($said, qr/\[emerg\].*invalid state file ".*v\/real" in "request_cpu_zone": zone "hosts" has it/, 'are refused');
unlink $file, $t->dir . '/state/v/real';
rmdir $t->dir . '/state/v';
symlink 'hosts', $file;
($status, $said) = $t->try_config(%part);
isnt($status, 0, 'a link to itself');
like($said, qr/\[emerg\].*invalid state file ".*" in "request_cpu_zone": .*too many levels/i, 'is refused');
unlink $file;

# Another key, another size
$t->write_file($file, $good);
$t->start(%part, http => http(key => '$server_port'));
cmp_ok(lines(qr/\[warn\].*\Q$file\E.*"\$host"/), '>', 0, 'a file of another key is not used');
is_deeply([ keys %{ counters('hosts') } ], [], 'no account is there');
is($t->stop, 0, 'stop');
is($t->slurp("$file.bad"), $good, 'it is set aside');
unlink "$file.bad", $file;

$t->start(%part);
ask("key$_.test", 1) for 1 .. 30;
wait_until(60, sub { keys %{ counters('hosts') } == 30 });
is($t->stop, 0, 'stop');
$t->start(%part, http => http(size => '32k'));
my $zone = $t->status->{zones}{hosts};
is(sum(map { $_->{requests} } values %{ $zone->{keys} }), 30, 'in a zone that is too small nothing is lost');
is($zone->{accounts}, $zone->{capacity}, 'it is full');
is($zone->{keys}{'*'}{requests}, 30 - $zone->{capacity}, 'the rest is in the overflow account');
is($zone->{overflowed}, 30 - $zone->{capacity}, 'counted as overflowed');
cmp_ok(lines(qr/\[warn\].*"hosts".*too small/), '>', 0, 'and warned of');
ok($t->reload(http => http(size => '1m')), 'a reload to another size');
is(sum(map { $_->{requests} } values %{ counters('hosts') }), 30, 'loses nothing either');

# A file that is configured while NGINX runs: the accounts are those of the existing zone
ok($t->reload(http => http(state => '')), 'a reload to no file');
unlink $file;
ok($t->reload(http => http(state => 'state=state/other')), 'a reload to another one');
is(sum(map { $_->{requests} } values %{ counters('hosts') }), 30, 'keeps the accounts');
is($t->stop, 0, 'stop');
$t->start(%part, http => http(state => 'state=state/other'));
is(sum(map { $_->{requests} } values %{ counters('hosts') }), 30, 'and the accounts are in the new one');
is($t->stop, 0, 'stop');
unlink glob $t->dir . '/state/*';

# Two servers cannot use the same file
$t->start(%part);
ask('one.test', 3);
requests('one.test', 3);
my $second = Test::RequestCpu->new;
$second->html('a.txt', "plain\n");
my %second = (%part, http => http() =~ s{state=state/hosts}{state=$file}r =~ s{\Qstate={{dir}}/state/keys\E}{}r);
$second->expect_log(qr/is in use by another server/);
ok(!eval { local $SIG{__WARN__} = sub { }; $second->start(%second, quiet => 1); 1 },
    'a second server with the same file does not start');
like($second->error_log, qr/\[emerg\].*state file "\Q$file\E" in request_cpu_zone "hosts" is in use by another server/,
    'and says why');
is(($second->try_config(%second))[0], 0, 'a configuration test does not mind');
is($t->stop, 0, 'the first one stops');
$second->start(%second);
is($second->account('hosts', 'one.test')->{requests}, 3, 'then the second one can have it');
is($second->stop, 0, 'stop');
$second->done(more => 1);
unlink glob $t->dir . '/state/*';

# A reload removes a zone, and another reload adds it again; also with another name, or with requests that end in
# between
my $gone = http() =~ s/^.*request_cpu.*\n//gmr;
$t->html('slow.bin', 'x' x 2_000_000);
$t->start(%part);
ask('one.test', 100);
requests('one.test', 100);
ok($t->reload(http => $gone, status => 0), 'a reload without the zone');
ok(-s $file, 'the file is written');
ok(wait_until(60, sub { "@{ files() }" eq 'hosts keys' }), 'and, when the old workers are gone, not locked any more');
ok($t->reload(%part, status => 1), 'a reload with the zone');
is(requests('one.test'), 100, 'the counters are there again');
my $slow = $t->connect('http');
$slow->request('/slow.bin', host => 'one.test', close => 1);
wait_until(60, sub { $t->account('hosts', 'one.test')->{in_flight} == 1 });
kill HUP => $t->master if $t->_write_config(%part, http => $gone, status => 0) || 1;
wait_until(60, sub { $t->workers(old => 1) });
$slow->response;
$slow->close;
ok(wait_until(60, sub { !$t->workers(old => 1) }), 'a request ends after the zone was taken away');
ok($t->reload(%part, status => 1), 'a reload with the zone');
is(requests('one.test'), 101, 'the request is counted');
ask('one.test', 4);
requests('one.test', 105);
ok($t->reload(http => http() =~ s/zone=hosts/zone=renamed/gr), 'a reload with another name of the zone');
is($t->account('renamed', 'one.test')->{requests}, 105, 'loses nothing');
is($t->stop, 0, 'stop');
$t->start(%part);
is(requests('one.test'), 105, 'nor does a restart with the old name');
is($t->stop, 0, 'stop');

# If no thread can be started, the last save uses none
SKIP: {
    my $before = preload($t, 'nothread', <<'EOC') or skip('there is no compiler here', 3);
#include <errno.h>
#include <pthread.h>
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *d) { return EAGAIN; }
EOC
    $t->start(%part, before => $before);
    my $had = requests('one.test');
    ask('one.test', 2);
    requests('one.test', $had + 2);
    is($t->stop, 0, 'a server that can have no more threads ends');
    is(lines(qr/\[error\].*thread/), 0, 'without an error');
    $t->start(%part);
    is(requests('one.test'), $had + 2, 'and has saved its counters');
    is($t->stop, 0, 'stop');
}

# Workers of a killed master do not write over the file of a newer server
{
    $t->start(%part, main => 'worker_processes 1;');
    my $had = requests('one.test');
    my $open = $t->connect('http');
    ask('one.test', 1);
    requests('one.test', $had + 1);
    # its next save is due in ten seconds
    set_header(88, int(1000 * clock_gettime(CLOCK_MONOTONIC)) + 10_000);
    ok($t->reload, 'a worker that is about to save');
    my @orphans = $t->workers;
    kill KILL => $t->master;
    waitpid delete $t->{pid}, 0;
    my $second = Test::RequestCpu->new;
    $second->html('a.txt', "plain\n");
    my %second = (%part, http => http() =~ s{state=state/hosts}{state=$file}r =~ s{\Qstate={{dir}}/state/keys\E}{}r);
    $second->start(%second);
    my $saved = $second->account('hosts', 'one.test')->{requests};
    $second->get('/a.txt', host => 'one.test') for 1 .. 10;
    $second->account_with('hosts', 'one.test', $saved + 10);
    ok(wait_until(60, sub { lines(qr/\[error\].*\Q$file\E.*another configuration has used the file since/) }),
        'workers whose master was killed leave the file alone');
    kill QUIT => @orphans;
    $open->close;
    ok(wait_until(60, sub { !kill 0, @orphans }), 'workers of a killed master end');
    is($second->stop, 0, 'the server that has their file since ends');
    $second->done(more => 1);
    $t->start(%part);
    is(requests('one.test'), $saved + 10, 'and its counters are the ones that are kept');
    is($t->stop, 0, 'stop');
}

# A hanging disk delays neither the end nor a reload for long: a library makes fsync wait
SKIP: {
    my $before = hanging_fsync($t, 60) or skip('there is no compiler here', 5);
    $t->start(%part, before => $before);
    ask('one.test', 1);
    my $begin = time;
    ok($t->reload(http => $gone, status => 0), 'a disk that hangs: a reload without the zone is done');
    my $reload = time - $begin;
    is(lines(qr/\[error\].*saving counters in ".*hosts", ".*keys" takes too long/), 1, 'with a message');
    ok($t->reload(%part, status => 1), 'a reload with the zone');
    ask('one.test', 1);
    $begin = time;
    is($t->stop(within => 40), 0, 'NGINX ends');
    cmp_ok(time - $begin + $reload, '<', 40, 'long before the disk answers');
}
unlink glob $t->dir . '/state/*';

# A binary upgrade uses the accounts in memory, and each master that ends saves them
$t->start(%part, daemon => 1);
ask('one.test', 10);
requests('one.test', 10);
ok($t->upgrade, 'a new binary');
ask('one.test', 10);
is($t->retire, 0, 'takes over');
is(requests('one.test', 20), 20, 'with the accounts of the old one');
ask('one.test', 10);
is(requests('one.test', 30), 30, 'and its own');
is($t->stop, 0, 'stop');
$t->start(%part);
is(requests('one.test'), 30, 'the new master has saved them');
is($t->stop, 0, 'stop');

# If the new binary has another layout of the table, it begins with the saved counters
$t->start(%part, daemon => 1);
set_header(8, 0);
ok($t->upgrade, 'a new binary that does not know the table');
is($t->retire, 0, 'takes over');
cmp_ok(lines(qr/\[notice\].*"hosts" does not go on.*another version/), '>', 0, 'says so');
is(requests('one.test'), 30, 'and reads the file');
is($t->stop, 0, 'stop');

# One process
$t->start(%part, main => 'worker_processes 1;', single_process => 1);
is(requests('one.test'), 30, 'a single process reads the file');
ask('one.test', 1);
requests('one.test', 31);
is($t->stop, 0, 'stop');
$t->start(%part);
is(requests('one.test'), 31, 'and writes it');
is($t->stop, 0, 'stop');

# A full disk: a limit of the file size is similar, and easier to make
my $limited = $t->slurp($file);
my @names = map { sprintf '%s%03d.test', 'long' x 40, $_ } 1 .. 120;
unlink $t->dir . '/error.log';
$t->start(%part, log => 0, main => "worker_processes 2;\nerror_log $t->{dir}/error.log error;",
    before => [ 'sh', '-c', 'ulimit -f 64 && exec "$0" "$@"' ]);
ask($_, 1) for @names;
requests($names[-1], 1);
is($t->stop, 0, 'stop, where no large file can be written');
cmp_ok(lines(qr/\[error\].*\Q$file\E.*File too large/), '>', 0, 'is an error that is logged');
is($t->slurp($file), $limited, 'the file of before is still there, whole');
is_deeply([ grep { /tmp/ } @{ files() } ], [], 'and no half of a new one');

# Workers that may not write to the folder
SKIP: {
    skip('only root can be another user', 5) if $> != 0;
    unlink glob $t->dir . '/state/*';
    my $group = getgrgid((getpwnam 'nobody')[3]);
    my $raw = $t->_config(%part) =~ s/user root;/user nobody $group;/r;
    chmod 0777, glob $t->dir . '/temp';
    $t->start(raw => $raw =~ s/worker_processes 2/worker_processes 1/r);
    ask('one.test', 3);
    requests('one.test', 3);
    set_due();
    ok($t->reload, 'a minute is over');
    ok(wait_until(60, sub { lines(qr/\[notice\].*\Q$file\E.*only when NGINX ends/) }),
        'workers that may not write say so');
    sleep 1;
    is(lines(qr/only when NGINX ends/), 1, 'once');
    is($t->stop, 0, 'stop');
    $t->start(%part);
    is(requests('one.test'), 3, 'then the master alone saves the accounts');
}

$t->done;
