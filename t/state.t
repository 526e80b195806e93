# Counters are kept in a file over a stop and a start.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
mkdir $t->dir . '/state';
my $file = $t->dir . '/state/hosts';

sub http {
    my (%change) = @_;
    my ($key, $size, $state) = ($change{key} || '$host', $change{size} || '1m', defined $change{state} ? $change{state} : 'state=state/hosts');
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

# What an account has counted, when its last second is over; how busy it is now, and was at most, is not kept.
sub counters {
    my ($zone) = @_;
    my $keys;
    wait_until(3, sub {
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

sub files { my @names = map { s{.*/}{}r } glob $t->dir . '/state/* ' . $t->dir . '/state/.*[!.]*'; return [ sort @names ] }

sub contents { return { map { $_ => $t->slurp($t->dir . "/state/$_") } @{ files() } } }

sub lines { my ($pattern) = @_; return scalar grep { /$pattern/ } split /\n/, $t->error_log }

my %part = (main => 'worker_processes 2;', http => http());
$t->start(%part);
is(lines(qr/\[(?:warn|error)\]/), 0, 'a start without a file is nothing to speak of');
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
sub test_config { return run_command($t->{binary}, '-t', '-e', 'stderr', '-p', $t->dir . '/', '-c', $t->dir . '/nginx.conf') }
is((test_config())[0], 0, 'a configuration test while it runs');
is_deeply(contents(), $before, 'touches no file');
is_deeply(counters('hosts'), $hosts, 'and no account');

# Once a minute: a worker looks when it begins, so a reload shows it if the time is set back to when it was due. It is in the
# header of the table (Table::claim_save).
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
ok(wait_until(10, sub { $t->slurp($file) ne $before->{hosts} }), 'a worker saves the accounts');
is($t->slurp($t->dir . '/state/keys'), $before->{keys}, 'of the zone that was due');
is_deeply(files(), [ 'hosts', 'keys' ], 'and leaves nothing else');
ask('one.test', 5);
requests('one.test', 30);
my @killed = ($t->master, $t->workers);
kill KILL => @killed;
waitpid delete $t->{pid}, 0;
wait_until(5, sub { !kill 0, @killed });
$t->start(%part);
is_deeply(counters('hosts'), $hosts, 'master and workers are killed: what was saved is there again');
is($t->stop, 0, 'stop');

# What a writer that was killed has left behind
my $dead = fork;
POSIX::_exit(0) if defined $dead && !$dead;
waitpid $dead, 0;
$t->write_file("$file.tmp-$dead", 'half');
$t->write_file("$file.tmp-$$", 'of one that lives');
$t->write_file("$file.tmp-x", 'of somebody else');
$t->start(%part);
is_deeply(files(), [ 'hosts', "hosts.tmp-$$", 'hosts.tmp-x', 'keys' ], 'a half written file is removed, if its writer is dead');
is($t->stop, 0, 'stop');
unlink "$file.tmp-$$", "$file.tmp-x";

# Files that cannot be used
my $good = $t->slurp($file);
my $flipped = $good;
substr($flipped, length($good) / 2, 1) ^= "\x04";
my %bad = (
    empty => '',
    truncated => substr($good, 0, -1),
    corrupt => $flipped,
    foreign => "root:x:0:0:root:/root:/bin/bash\n",
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
is($t->stop, 0, 'stop');

# Nothing more can be set aside: then the file stays, and nothing is written over it
$t->write_file("$file.bad-$_", '') for $count .. 99;
$t->write_file($file, 'evidence');
$t->start(%part);
cmp_ok(lines(qr/\[warn\].*\Q$file\E" is not used.*cannot be set aside/), '>', 0, 'a file that cannot be set aside');
is($t->stop, 0, 'stop');
is($t->slurp($file), 'evidence', 'is not written over');
unlink glob "$file.bad*";

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
wait_until(5, sub { keys %{ counters('hosts') } == 30 });
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

# A file that is configured while NGINX runs: the accounts are those of the zone that is there
ok($t->reload(http => http(state => '')), 'a reload to no file');
unlink $file;
$t->write_file($t->dir . '/state/other', 'precious');
ok($t->reload(http => http(state => 'state=state/other')), 'a reload to another one');
is(sum(map { $_->{requests} } values %{ counters('hosts') }), 30, 'keeps the accounts');
is($t->stop, 0, 'stop');
is(contents()->{'other.bad'}, 'precious', 'a foreign file there is set aside');
$t->start(%part, http => http(state => 'state=state/other'));
is(sum(map { $_->{requests} } values %{ counters('hosts') }), 30, 'and the accounts are in the new one');
is($t->stop, 0, 'stop');
unlink glob $t->dir . '/state/*';

# Over a binary upgrade the accounts are those in memory, and each master that ends saves them
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

# Should the new binary have another layout of the table, it begins with what was saved
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

# A disk that is full: a limit to the size of a file is like that, and easier to have
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

# Workers that may not write there
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
    ok(wait_until(10, sub { lines(qr/\[notice\].*\Q$file\E.*only when NGINX ends/) }), 'workers that may not write say so');
    sleep 1;
    is(lines(qr/only when NGINX ends/), 1, 'once');
    is($t->stop, 0, 'stop');
    $t->start(%part);
    is(requests('one.test'), 3, 'then the master alone saves the accounts');
}

$t->done;
