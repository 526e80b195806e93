package Test::RequestCpu::CpuTime;

# The CPU time of workers by the kernel's count. A part of Test::RequestCpu.

use strict;
use warnings;

use Test::RequestCpu::Figures qw(sum);
use Test::RequestCpu::Process qw(wait_until);
use Time::HiRes qw(sleep);

# CPU nanoseconds of a thread; the default is the main thread.
sub sched_ns {
    my ($self, $pid, $tid) = @_;
    $tid ||= $pid;
    my ($ns) = $self->slurp("/proc/$pid/task/$tid/schedstat") =~ /^(\d+)/;
    return $ns;
}

# CPU nanoseconds of all threads of a worker, except the main thread.
sub pool_ns {
    my ($self, $pid) = @_;
    my @tids = grep { $_ != $pid } map { m{/(\d+)$} } glob "/proc/$pid/task/[0-9]*";
    return sum(map { $self->sched_ns($pid, $_) || 0 } @tids);
}

# Waits until processes sleep, and stay asleep. A process that waits for a processor uses no CPU, but does not sleep.
sub quiet {
    my ($self, @pids) = @_;
    @pids = $self->workers unless @pids;
    my $before = '';
    wait_until(20, sub {
        my $now = join ' ', map { $self->_rest($_) } @pids;
        my $same = $now eq $before && $now !~ /awake/;
        $before = $now;
        return 1 if $same;
        sleep 0.03;
        return;
    });
}

# A text that changes whenever the main thread of a process runs; "awake" if it does not sleep.
sub _rest {
    my ($self, $pid) = @_;
    my ($state) = $self->slurp("/proc/$pid/stat") =~ /^\d+ \(.*\) (\S)/s or return 'gone';
    return $state =~ /[SZ]/ ? $self->slurp("/proc/$pid/task/$pid/schedstat") : 'awake';
}

# CPU of the main threads of all workers during a function.
sub measured {
    my ($self, $code) = @_;
    my @pids = $self->workers;
    $self->quiet(@pids);
    my $before = sum(map { $self->sched_ns($_) } @pids);
    $code->();
    $self->quiet(@pids);
    return sum(map { $self->sched_ns($_) } @pids) - $before;
}

# Like measured(), and the same CPU without that of the event loop. A worker that sleeps and wakes often uses a good
# part of its CPU for the loop, on some machines more than on others. The status requests are in the loop's part and
# not in the measured CPU, so the function should use some milliseconds.
sub worked {
    my ($self, $code) = @_;
    my $before = sum(map { $_->{loop_ns} } @{ $self->status->{workers} });
    my $used = $self->measured($code);
    my $loop = sum(map { $_->{loop_ns} } @{ $self->status->{workers} }) - $before;
    return ($used, $used - $loop);
}

# The nanoseconds in the log of the requests of a function, which make so many lines, and the CPU of the workers'
# threads in the same time. A slow machine increases both.
sub charged_and_used {
    my ($self, $count, $code) = @_;
    $self->clear_log;
    my $used = $self->measured(sub { $code->(); $self->logged($count) });
    return (sum(map { $_->{ns} } $self->log_lines), $used);
}

# The processors that this test may run on.
sub processors {
    my ($self) = @_;
    my ($list) = $self->slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\S+)/m;
    return map { /^(\d+)-(\d+)$/ ? ($1 .. $2) : $_ } split /,/, defined $list ? $list : '0';
}

# A worker_cpu_affinity that pins every worker to one processor.
sub affinity {
    my ($self, $processor) = @_;
    return 'worker_cpu_affinity ' . '1' . '0' x $processor . ';';
}

1;
