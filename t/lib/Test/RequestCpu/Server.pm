package Test::RequestCpu::Server;

# The life of a server: start, reload, upgrade, end, and its processes. A part of Test::RequestCpu.

use strict;
use warnings;

use POSIX ();
use Test::More;
use Test::RequestCpu::Child;
use Test::RequestCpu::Process qw($PATIENCE _adopt_orphans _die_with_parent wait_until);
use Time::HiRes qw(sleep time);

sub start {
    my ($self, %part) = @_;
    $self->{part} = \%part;
    delete $self->{log_read};
    $self->_write_config(%part);
    my $master = $part{single_process} ? 'master_process off;' : 'master_process on;';
    # A master whose first parent still runs ignores USR2 (ngx_signal_handler).
    my $daemon = $part{daemon} ? 'on' : 'off';
    _adopt_orphans() if $part{daemon};
    unlink "$self->{dir}/nginx.pid";

    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid == 0) {
        _die_with_parent();
        # the alarm of the test must not become an alarm of NGINX
        alarm 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM INT TERM HUP PIPE);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/stderr.log";
        open STDERR, '>>', "$self->{dir}/stderr.log";
        my @command = (
            $self->{binary}, '-p', "$self->{dir}/", '-e', "$self->{dir}/error.log", '-c', "$self->{dir}/nginx.conf",
            '-g', "daemon $daemon; $master",
        );
        unshift @command, @{ $part{before} } if $part{before};    # a command that executes NGINX in its own place
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $self->{single} = $part{single_process};
    if ($part{daemon}) {
        waitpid $pid, 0;
        wait_until($PATIENCE, sub { ($pid) = $self->slurp("$self->{dir}/nginx.pid") =~ /^(\d+)$/ });
        $self->{pid} = $pid or die "NGINX did not start: " . $self->slurp("$self->{dir}/error.log");
    }

    my $ready = wait_until($PATIENCE, sub {
        if (waitpid($pid, POSIX::WNOHANG()) == $pid) { delete $self->{pid}; return 'gone' }
        return unless -s "$self->{dir}/nginx.pid" && $self->workers >= $self->expected_workers;
        return 1 unless $self->{status_port};
        my $answer = eval { $self->get('/', port => 'status', timeout => 10) };
        return $answer && $answer->{status} == 200;
    });
    if (!$ready || $ready eq 'gone') {
        diag($self->slurp("$self->{dir}/stderr.log") . $self->slurp("$self->{dir}/error.log"));
        die "NGINX did not start\n";
    }
    return $self;
}

sub master { $_[0]{pid} }

# Processes of this server: { pid => title }, without the master.
sub processes {
    my ($self) = @_;
    my %title;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my $line = $self->slurp($stat);
        next unless $line =~ /^(\d+) \(.*\) (\S) (\d+) /s && $3 == $self->{pid} && $2 ne 'Z';
        $title{$1} = $self->_title($1);
    }
    return \%title;
}

# The title that a process of NGINX gives itself. Under emulation the system does not see it, and the error log tells.
sub _title {
    my ($self, $pid) = @_;
    if ($ENV{TEST_NGINX_EMULATED}) {
        my $log = $self->error_log;
        my ($kind) = $log =~ /\bstart (.*) process $pid$/m or return '';
        return "nginx: $kind process" . ($log =~ /\b$pid\#\d+: gracefully shutting down$/m ? ' is shutting down' : '');
    }
    my $title = $self->slurp("/proc/$pid/cmdline");
    $title =~ s/\0/ /g;
    return $title;
}

# Worker processes that serve; with old => 1, those that a reload told to finish.
sub workers {
    my ($self, %which) = @_;
    return $self->{pid} if $self->{single};
    my $title = $self->processes;
    my @pids = grep {
        $title->{$_} =~ /worker process/
            && ($which{all} || (($title->{$_} =~ /shutting down/ ? 1 : 0) == ($which{old} ? 1 : 0)))
    } keys %$title;
    for my $pid (@pids) { $self->{begun}{$pid} = $self->sched_ns($pid) unless defined $self->{begun}{$pid} }
    return @pids = sort { $a <=> $b } @pids;
}

sub worker { ($_[0]->workers)[0] }

# The master starts workers one after the other, and serves before the last one runs.
sub expected_workers {
    my ($self) = @_;
    return 1 if $self->{single};
    return ($self->{part}{main} || '') =~ /\bworker_processes\s+(\d+)/ ? $1 : 1;
}

sub reload {
    my ($self, %part) = @_;
    $self->{part} = { %{ $self->{part} }, %part };
    $self->_write_config(%{ $self->{part} }) if %part;
    my %old = map { $_ => 1 } $self->workers;
    kill HUP => $self->{pid};
    my $done = wait_until($PATIENCE, sub {
        my @now = $self->workers;
        return @now >= $self->expected_workers && !grep { $old{$_} } @now;
    });
    return $done;
}

# Makes the master, started with daemon => 1, execute another one that serves beside it, possibly with another
# configuration. From then on, this object stands for the new master. retire() ends the old one.
sub upgrade {
    my ($self, %part) = @_;
    $self->{part} = { %{ $self->{part} }, %part };
    $self->_write_config(%{ $self->{part} }) if %part;
    my $old = $self->{pid};
    kill USR2 => $old;
    my $ready = wait_until($PATIENCE, sub {
        my ($new) = $self->slurp("$self->{dir}/nginx.pid") =~ /^(\d+)$/;
        return unless $new && $new != $old && -e "$self->{dir}/nginx.pid.oldbin";
        local $self->{pid} = $new;
        return $self->workers >= $self->expected_workers && $new;
    }) or return;
    @$self{qw(pid old)} = ($ready, $old);
    return $ready;
}

# Ends the old master after an upgrade: first its workers, then the master. Returns its exit status.
sub retire {
    my ($self, %how) = @_;
    my $new = $self->{pid};
    $self->{pid} = delete $self->{old};
    kill WINCH => $self->{pid};
    my $idle = wait_until($PATIENCE, sub { !$self->workers(all => 1) });
    my $status = $self->stop(%how);
    $self->{pid} = $new;
    return $idle ? $status : 'old workers stay';
}

# Rolls an upgrade back: the new master ends, and the old one continues.
sub take_back {
    my ($self) = @_;
    my $old = delete $self->{old};
    kill QUIT => $self->{pid};
    my $gone = wait_until($PATIENCE, sub { !kill(0, $self->{pid}) && !-e "$self->{dir}/nginx.pid.oldbin" });
    $self->{pid} = $old;
    return $gone;
}

# Ends the server, gracefully unless another signal is named. Returns its exit status.
sub stop {
    my ($self, %how) = @_;
    my $pid = delete $self->{pid} or return $self->{left};
    my @children = do { local $self->{pid} = $pid; keys %{ $self->processes } };
    kill +($how{signal} || 'QUIT') => $pid;
    my $limit = time + ($how{within} || $PATIENCE);
    my ($status, $forced);
    while (1) {
        my $got = waitpid($pid, POSIX::WNOHANG());
        if ($got == $pid) { $status = $?; last }
        if ($got < 0) { $status = -1; last }
        if (time > $limit) {
            # A worker outlives a killed master, so it is killed first.
            kill KILL => @children, $pid;
            $forced = 1;
            $limit = time + 5;
        }
        sleep 0.01;
    }
    kill KILL => grep { $self->_is_nginx($_) } @children if $forced;
    return $self->{left} = $forced ? 'did not stop by itself' : $status;
}

sub _is_nginx { my ($self, $pid) = @_; return $self->_title($pid) =~ /^(?:nginx|angie): / }

# Starts a helper process of the test, which is stopped with the server: a function in a child, or a command.
sub spawn {
    my ($self, @what) = @_;
    my $child = Test::RequestCpu::Child->new(@what);
    push @{ $self->{children} }, $child;
    return $child;
}

1;
