package Test::RequestCpu::Checks;

# Checks at the end of every test: the worker totals add up, and the error log is clean. A part of Test::RequestCpu.

use strict;
use warnings;

use Exporter qw(import);
use Test::More;

our @EXPORT_OK = qw(totals_faults);

# The worker totals add up exactly, and agree with the thread's CPU time.
sub check_totals {
    my ($self, %option) = @_;
    my $name = $option{name} || 'worker totals';
    $self->quiet;
    my %before = map { $_ => $self->sched_ns($_) } $self->workers;
    my $workers = $self->status($option{query})->{workers};
    # the kernel updates the figure of a running thread only at each tick
    $self->quiet;
    my %after = map { $_ => $self->sched_ns($_) } keys %before;
    my @wrong = totals_faults($workers);
    # The module does not count CPU before the event-loop hook was set: the CPU of a worker when it was first seen,
    # which is at its begin (ngx_worker_process_cycle then sets its title), and some milliseconds. An emulator has
    # to translate the code of a worker first.
    my $start_ns = ($option{start_ms} || 5) * ($ENV{TEST_NGINX_EMULATED} ? 100 : 1) * 1e6;
    my %seen;
    for my $worker (@$workers) {
        my $pid = $worker->{pid};
        next unless defined $before{$pid} && defined $after{$pid};
        $seen{$pid} = 1;
        my $counted = $worker->{thread_cpu_ns};
        push @wrong, "worker $pid counted $counted ns, its thread had $after{$pid} ns"
            if $counted > $after{$pid} * 1.001 + 2e5;
        push @wrong, "worker $pid counted $counted ns of its thread's $before{$pid} ns"
            if $counted < $before{$pid} * 0.97 - $start_ns - ($self->{begun}{$pid} || 0);
    }
    push @wrong, "worker $_ is missing in the status" for grep { !$seen{$_} } keys %before;
    ok(!@wrong, "$name: every worker's thread CPU is charged to requests, connections without one, the loop, or other")
        or diag(join "\n", @wrong);
    return $workers;
}

sub totals_faults {
    my ($workers) = @_;
    my @wrong;
    for my $worker (@$workers) {
        my $all = $worker->{charged_ns} + $worker->{no_request_ns} + $worker->{loop_ns} + $worker->{other_ns};
        push @wrong, "worker $worker->{worker}: thread_cpu_ns is $worker->{thread_cpu_ns}, its parts are $all in sum"
            if $all != $worker->{thread_cpu_ns};
    }
    return @wrong;
}

# Adds messages of the error log that the test provokes on purpose.
sub expect_log { my ($self, @patterns) = @_; push @{ $self->{expected} }, @patterns }

sub error_log { my ($self) = @_; return $self->slurp("$self->{dir}/error.log") }

sub log_faults {
    my ($self) = @_;
    my @bad = grep { /\[(?:alert|emerg|crit)\]/ } split /\n/, $self->error_log;
    for my $pattern (@{ $self->{expected} }) { @bad = grep { $_ !~ $pattern } @bad }
    push @bad, grep { /panicked|SUMMARY|free\(\)|malloc|corrupt/ } split /\n/, $self->slurp("$self->{dir}/stderr.log");
    return @bad;
}

1;
