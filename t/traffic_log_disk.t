# The traffic log on a full disk, and in files that are not regular: an error is logged once, and the missing lines
# are written later.

use strict;
use warnings;

use Fcntl qw(:DEFAULT);
use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::TrafficLog;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
my $folder = $t->dir . '/disk';
mkdir $folder;
my $log = "$folder/traffic.log";

my %part = (main => 'worker_processes 2;', log => 0, http => <<"EOC");
    request_cpu_zone \$arg_k zone=keys:4m;
    request_cpu zone=keys;
    request_cpu_log {{dir}}/disk/traffic.log zone=keys interval=1s;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 204; }
    }
EOC

sub sums { return sums_of(lines_of(@_))->{keys} || {} }

sub ask {
    my ($name, $count) = @_;
    my $connection = $t->connect('http');
    $connection->get("/?k=$name$_") for 1 .. $count;
    $connection->close;
}

sub errors   { return scalar grep {
    /\[error\].*request_cpu_log "\Q$log\E" of zone "keys" cannot be written/ } split /\n/, $t->error_log }
sub recovery {
    return scalar grep { /\[notice\].*request_cpu_log "\Q$log\E" of zone "keys" is written again/ } split /\n/,
        $t->error_log;
}

sub settles {
    my ($name, @files) = @_;
    $t->quiet;
    wait_until(60, sub { my $sums = eval { sums(@files) }; $sums && !unwritten($sums, final_counters_of($t, 'keys')) });
    sums_are_counters(eval { sums(@files) } || {}, final_counters_of($t, 'keys'), $name);
}

# A device that is always full
symlink '/dev/full', $log;
$t->start(%part);
ask('a', 20);
ok(wait_until(60, sub { errors() }), 'a file that cannot be written is an error in the log');
like($t->error_log, qr/cannot be written: No space left on device/, 'with the reason');
ask('a', 5);
sleep 3;
ask('b', 5);
is(errors(), 1, 'which is not repeated');
is(recovery(), 0, 'as long as it lasts');
my $lasted = time;
unlink $log;
kill USR1 => $t->master;
settles('missing lines are written as soon as possible', $log);
ok(wait_until(60, sub { recovery() == 1 }), 'as the log says, once');
my @lines = lines_of($log);
cmp_ok((sort { $b <=> $a } map { $_->{interval_ms} } @lines)[0], '>=', 2000, 'in lines of their true length');
ask('a', 3);
settles('and it goes on', $log);
@lines = splice @{ [ lines_of($log) ] }, scalar @lines;
cmp_ok((sort { $b <=> $a } map { $_->{interval_ms} } @lines)[0], '<', 3000, 'each second');

# At the end of NGINX
unlink $log;
symlink '/dev/full', $log;
kill USR1 => $t->master;
sleep 0.1;
ask('z', 1);
$t->quiet;
is($t->stop, 0, 'NGINX ends, while its last part cannot be written');
like($t->error_log, qr/\[error\].*request_cpu_log "\Q$log\E" of zone "keys" lacks its last part: No space left/,
    'which is an error as well');
unlink $log;

# A disk that becomes full in the middle of a line
SKIP: {
    skip('only root can mount a file system', 14) if $> != 0;
    # no other process sees a mount in its own namespace, and it ends with NGINX
    my ($status) = run_command('unshare', '-m', 'mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', $folder);
    skip('no file system can be mounted here', 14) if $status;
    $t->start(%part, before => [ 'unshare', '-m', '--propagation', 'private', 'sh', '-c',
        "mount -t tmpfs -o size=64k tmpfs $folder && exec \"\$0\" \"\$@\"" ]);
    my $disk = '/proc/' . $t->master . "/root$folder";
    my $there = "$disk/traffic.log";
    ok(-e $there, 'a disk of 64 KB');
    # unshare makes no new process, so all processes see this folder
    my $errors = errors();
    my $resize = sub { return (run_command('nsenter', '-t', $t->master, '-m', 'mount', '-o', "remount,size=$_[0]",
        $folder))[0] };
    my ($text, $size) = ('', 64);
    for my $n (1 .. 20) {
        ask("key$n.", 80);
        next if !wait_until(1.5, sub { errors() > $errors });
        $text = text_of($there);
        last if $text !~ /\n\z/;
        # a line may end exactly where the disk is full: then try again with some more pages
        my $recoveries = recovery();
        $resize->(($size += 16) . 'k');
        wait_until(60, sub { recovery() > $recoveries }) or last;
        $errors = errors();
    }
    my $recoveries = recovery();
    ok(wait_until(60, sub { errors() == $errors + 1 }), 'is full');
    cmp_ok(length $text, '>', 60_000, 'to the end') or diag(length $text);
    unlike($text, qr/\n\z/, 'in the middle of a line');
    ask('more', 10);
    sleep 2.5;
    is(errors(), $errors + 1, 'one error');

    # more room
    is($resize->('1m'), 0, 'it gets larger');
    settles('the line that was torn is completed, and the others follow', $there);
    like(text_of($there), qr/^\Q$text\E/, 'the old text is still there');
    ok(wait_until(60, sub { recovery() == $recoveries + 1 }), 'the log says so');

    # the disk is full again, and then somebody empties the file
    my $more = "$disk/fill";
    open my $fill, '>', $more;
    $fill->autoflush(1);
    1 while syswrite $fill, 'x' x 4096;
    my $before = length text_of($there);
    ask('again', 150);
    ok(wait_until(60, sub { errors() == $errors + 2 }), 'full again');
    sleep 1;
    my $copy = $t->dir . '/copy.log';
    my $whole = text_of($there) =~ s/[^\n]*\z//r;
    $t->write_file($copy, $whole);
    truncate $there, 0;
    settles('somebody keeps a copy of the whole lines and empties the file', $copy, $there);

    # an incomplete line in a file that is moved away
    1 while syswrite $fill, 'x' x 4096;
    ask('moved', 150);
    ok(wait_until(60, sub { errors() == $errors + 3 }), 'and again');
    sleep 1;
    rename $there, "$there.1";
    kill USR1 => $t->master;
    ok(wait_until(60, sub { -e $there }), 'a new file');
    close $fill;
    unlink $more;
    settles('the line is completed where it began', $copy, "$there.1", $there);
    is($t->stop, 0, 'stop');
}

# A limit of the file size, which also applies to shared memory
unlink glob "$folder/*";
$t->start(%part, before => [ 'sh', '-c', 'ulimit -f 64 && exec "$0" "$@"' ],
    main => "worker_processes 2;\nerror_log $t->{dir}/small.log error;");
my $small = sub { my @errors = grep { /\[error\].*cannot be written: File too large/ } split /\n/,
    text_of("$t->{dir}/small.log"); scalar @errors };
my @size;
for my $n (1 .. 12) {
    ask("key$n.", 60);
    last if wait_until(1.5, sub { $small->() });
}
ok(wait_until(60, sub { $small->() == 1 }), 'a file that reaches its limit is an error');
rename $log, "$log.1";
kill USR1 => $t->master;
settles('nothing is lost', "$log.1", $log);
ok($t->reload, 'a reload');
ask('late', 5);
settles('changes nothing', "$log.1", $log);
ask('last', 5);
$t->account_with('keys', 'last5', 1);
$t->quiet;
my $counters = final_counters_of($t, 'keys');
is($t->stop, 0, 'stop');
sums_are_counters(sums("$log.1", $log), $counters, 'to the end');

# A pipe without a reader: requests do not wait for it
unlink glob "$folder/*";
POSIX::mkfifo($log, 0600);
sysopen my $pipe, $log, O_RDWR | O_NONBLOCK or die "$log: $!";
my $read = '';
sub drain {
    my $got;
    do { $got = sysread $pipe, $read, 65536, length $read } while $got;
    $t->write_file("$folder/read", $read);
}
$t->start(%part);
# the pipe takes 64 KB
ask("key$_.", 100) for 1 .. 6;
sleep 2.2;
my $began = time;
ask('while', 10);
cmp_ok(time - $began, '<', 20, 'requests are served while the log waits');
is(scalar($t->workers), 2, 'by all workers');
ok(wait_until(60, sub { drain(); my $sums = eval { sums("$folder/read") }; $sums
    && !unwritten($sums, counters_of($t, 'keys')) }), 'when it is read, all is there')
    or diag(join "\n", unwritten(eval { sums("$folder/read") } || {}, counters_of($t, 'keys')));

# The writer waits for the pipe, and is killed: another worker continues
ask("more$_.", 100) for 1 .. 6;
sleep 1.5;
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);
for my $pid ($t->workers) {
    kill KILL => $pid;
    ok(wait_until(60, sub { my @now = $t->workers; @now == 2 && !grep { $_ == $pid } @now }),
        'a worker is killed, maybe in the middle of a write');
}
drain();
ask('then', 3);
ok(wait_until(60, sub { drain(); $read =~ /"key":"then3"/ }), 'later lines are in the pipe');
my %seen;
# a line of 0 requests may follow, for the last second
$seen{$_}++ for $read =~ /"key":"(more[\d.]+)","requests":[1-9]/g;
is(scalar(grep { $_ > 1 } values %seen), 0, 'and nothing twice');
cmp_ok(scalar(keys %seen), '>=', 600 - 2 * 25, 'at most the lines of one write are lost');

# The pipe has no reader any more
ask("end$_.", 100) for 1 .. 6;
sleep 1.5;
$began = time;
is($t->stop(within => 40), 0, 'NGINX ends although the pipe is not read');
cmp_ok(time - $began, '<', 30, 'soon');
like($t->error_log, qr/\[error\].*request_cpu_log ".*" of zone "keys" (?:is not waited for|lacks its last part)/,
    'and reports the missing lines');
close $pipe;

$t->done;
