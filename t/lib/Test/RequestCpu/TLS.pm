package Test::RequestCpu::TLS;

# A client's TLS connection. Data goes through `openssl s_client`, since core Perl has no TLS.

use strict;
use warnings;

use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);

use Test::RequestCpu::Connection;

our @ISA = ('Test::RequestCpu::Connection');

# new(port => N, alpn => 'h2' | 'http/1.1', name => SERVER_NAME)
sub new {
    my ($class, %option) = @_;
    socketpair my $mine, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!\n";
    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid == 0) {
        alarm 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM INT TERM HUP PIPE);
        Test::RequestCpu::_die_with_parent() if Test::RequestCpu->can('_die_with_parent');
        open STDIN, '<&', $theirs;
        open STDOUT, '>&', $theirs;
        open STDERR, '>', '/dev/null';
        close $mine;
        exec 'openssl', 's_client', '-quiet', '-connect', "127.0.0.1:$option{port}", '-servername',
            $option{name} || 'localhost',
            '-alpn', $option{alpn} || 'http/1.1' or POSIX::_exit(127);
    }
    close $theirs;
    binmode $mine;
    my $self = bless { socket => $mine, buffer => '', timeout => $option{timeout} || 60, child => $pid, owner => $$ },
        $class;
    Test::RequestCpu->remember($self) if Test::RequestCpu->can('remember');
    return $self;
}

# Ends the connection without a TLS message, as it happens when a client's process ends.
sub close {
    my ($self) = @_;
    $self->_clean;
    $self->SUPER::close;
}

sub _clean {
    my ($self) = @_;
    return if $$ != $self->{owner};
    my $pid = delete $self->{child} or return;
    kill KILL => $pid;
    waitpid $pid, 0;
    Test::RequestCpu->forget($self) if Test::RequestCpu->can('forget');
}

sub DESTROY { my ($self) = @_; local ($?, $@, $!); $self->_clean }

1;
