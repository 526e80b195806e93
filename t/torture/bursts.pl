#!/usr/bin/env perl
# Keeps half of each processor busy: one process for each processor works for a second, rests for a second, and so on.
# The processes are not synchronised. So the CPU time of the same work changes from second to second, as on a shared
# machine.
#
#   t/torture/bursts.pl COMMAND…      runs the command beside this load, and ends with its status
#   t/torture/bursts.pl SECONDS       only makes the load, for so many seconds
#
# The load ends with the command, with the process that started it, or after BURSTS_SECONDS (default 7200).

use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(sleep time);

die "usage: $0 COMMAND... | SECONDS\n" unless @ARGV;
my $command = $ARGV[0] !~ /^\d+$/;
my $seconds = $command ? $ENV{BURSTS_SECONDS} || 7200 : shift;
my $end = time + $seconds;

# The processors that this process may use.
sub processors {
    open my $file, '<', '/proc/self/status' or return 0;
    my ($list) = map { /^Cpus_allowed_list:\s*(\S+)/ ? $1 : () } <$file>;
    return map { /^(\d+)-(\d+)$/ ? ($1 .. $2) : $_ } split /,/, $list;
}

# Works for one second, rests for one second, and so on.
sub bursts {
    my ($parent) = @_;
    sleep rand 2;
    while (time < $end && getppid == $parent) {
        my $until = time + 1;
        my $n = 0;
        while (time < $until) { $n = ($n * 1103515245 + 12345) % 2147483648 for 1 .. 1000 }
        # in parts, to notice soon that the parent has ended
        for (1 .. 10) { sleep 0.1; last if getppid != $parent }
    }
}

my $me = $$;
my @children;
for my $processor (processors()) {
    my $pid = fork;
    die "fork: $!\n" unless defined $pid;
    if ($pid) { push @children, $pid; next }
    srand;
    # without taskset, the kernel distributes them
    system "taskset -pc $processor $$ >/dev/null 2>&1";
    bursts($me);
    POSIX::_exit(0);
}

my $running;
sub finish {
    my ($status) = @_;
    kill TERM => @children;
    waitpid $_, 0 for splice @children;
    exit $status;
}
for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub { kill $signal => $running if $running; finish(130) };
}

if ($command) {
    $running = fork;
    die "fork: $!\n" unless defined $running;
    if ($running == 0) {
        exec { $ARGV[0] } @ARGV or do { warn "$ARGV[0]: $!\n"; POSIX::_exit(127) };
    }
    waitpid $running, 0;
    finish($? & 127 ? 128 + ($? & 127) : $? >> 8);
}
my $parent = getppid;
sleep 0.1 while time < $end && getppid == $parent;
finish(0);
