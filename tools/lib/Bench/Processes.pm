# What the parts of scripts/bench share: the options, a folder of files, the processors, the processes that were
# started, and their CPU time.
package Bench::Processes;

use strict;
use warnings;
use Exporter qw(import);
use POSIX ();
use Time::HiRes qw(sleep);
use Tool qw(lines spew);

our @EXPORT_OK = qw(%option $dir @processors @running cpu_ns run stolen stop urgent);

our %option;
our $dir;

# The workers have the first one, and the client the second one.
our @processors = map { /^processor\s*:\s*(\d+)/ ? $1 : () } lines('/proc/cpuinfo');

# Servers are known from the moment they run, and stopped only by the process that started them.
our @running;
my $main = $$;
END { local $?; stop(@running) if $$ == $main }
# A second signal does not interrupt what the first one has begun.
my @signals = qw(INT TERM HUP);
$SIG{$_} = sub { @SIG{@signals} = ('IGNORE') x @signals; exit 1 } for @signals;

# Starts a program, on this processor if one is given, with its output in a file. Not through a pipe, since perl waits
# for its other end before END can stop the program.
sub run {
    my ($processor, $output, @command) = @_;
    my $pid = fork // die "bench: fork: $!\n";
    if (!$pid) {
        open STDOUT, '>', $output or POSIX::_exit(127);
        open STDERR, '>&', \*STDOUT;
        exec defined $processor ? ('taskset', '-c', $processor) : (), @command or POSIX::_exit(127);
    }
    push @running, $pid;
    return $pid;
}

sub stop {
    my %gone = map { $_ => 1 } @_;
    kill 'TERM', keys %gone;
    for (1 .. 500) { last unless grep { waitpid $_, POSIX::WNOHANG(); kill 0, $_ } keys %gone; sleep 0.01 }
    @running = grep { !$gone{$_} } @running;
}

# A process goes before others. With autogroups, which a daemon has one of its own of, its nice value alone does
# nothing.
sub urgent {
    my ($pid) = @_;
    return unless $option{urgent};
    setpriority 0, $pid, -10 or die "bench: --urgent: $!\n";
    spew("/proc/$pid/autogroup", -10) if -e "/proc/$pid/autogroup";
}

# CPU time of a process, and time that it waited for a processor, both in nanoseconds
sub cpu_ns { return (split ' ', (lines("/proc/$_[0]/schedstat"))[0])[0, 1] }

# Seconds that the hypervisor has taken away from the workers' processor.
sub stolen {
    for (lines('/proc/stat')) {
        my ($name, @ticks) = split ' ';
        return $ticks[7] / POSIX::sysconf(POSIX::_SC_CLK_TCK()) if $name eq "cpu$processors[0]";
    }
    return 0;
}

1;
