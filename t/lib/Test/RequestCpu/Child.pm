package Test::RequestCpu::Child;

# A helper process of a test: a function or a command. It ends with the test.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use POSIX ();
use Test::RequestCpu::Cleanup;
use Test::RequestCpu::Process qw(_die_with_parent);
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(detached);

sub new {
    my ($class, @what) = @_;
    pipe my $read, my $write or die "pipe: $!\n";
    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid == 0) {
        close $read;
        # a process group of its own, so that its children end with it
        setpgrp 0, 0;
        alarm 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM INT TERM HUP);
        _die_with_parent();
        if (ref $what[0]) {
            $write->autoflush(1);
            my $fine = eval { $what[0]->($write, @what[1 .. $#what]); 1 };
            print STDERR "# helper process: $@" unless $fine;
            close $write;
            POSIX::_exit($fine ? 0 : 1);
        }
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $write;
        open STDERR, '>&', $write;
        exec { $what[0] } @what or POSIX::_exit(127);
    }
    close $write;
    # the group must exist before anything can signal it
    eval { POSIX::setpgid($pid, $pid) };
    my $self = bless { pid => $pid, read => $read, owner => $$ }, $class;
    Test::RequestCpu::Cleanup->remember($self);
    return $self;
}

sub pid { $_[0]{pid} }

# The output, after the process has ended.
sub output {
    my ($self) = @_;
    local $/;
    my $text = readline $self->{read};
    $self->wait;
    return defined $text ? $text : '';
}

sub result {
    my ($self) = @_;
    my $text = $self->output;
    die "helper process left no result\n" if $text eq '';
    return JSON::PP->new->allow_nonref->decode($text);
}

sub wait {
    my ($self, $limit) = @_;
    return $self->{status} if !$self->{pid};
    my $end = time + ($limit || 60);
    while (time < $end) {
        if (waitpid($self->{pid}, POSIX::WNOHANG()) != 0) {
            $self->{status} = $?;
            delete $self->{pid};
            Test::RequestCpu::Cleanup->forget($self);
            return $self->{status};
        }
        sleep 0.005;
    }
    return;
}

sub end { $_[0]->_clean }

sub _clean {
    my ($self) = @_;
    my $pid = $self->{pid} or return;
    return if $$ != $self->{owner};
    kill TERM => -$pid;
    if (!defined $self->wait(1)) {
        kill KILL => -$pid;
        $self->wait(5);
    }
    delete $self->{pid};
    Test::RequestCpu::Cleanup->forget($self);
}

sub DESTROY { my ($self) = @_; local ($?, $@, $!); $self->_clean if $self->{pid} && $$ == $self->{owner} }

# Runs a function in the background. Its result is a data structure; the caller can wait for it.
sub detached {
    my ($code) = @_;
    return Test::RequestCpu::Child->new(sub {
        my ($result) = @_;
        print {$result} JSON::PP->new->allow_nonref->encode($code->());
    });
}

1;
