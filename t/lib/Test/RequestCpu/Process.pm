package Test::RequestCpu::Process;

# Runs commands, and sets options of the kernel for this process.

use strict;
use warnings;

use Exporter qw(import);
use File::Temp ();
use POSIX ();
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw($PATIENCE _adopt_orphans _die_with_parent run_command wait_until);

# The seconds that a test waits for an expected event. If the event comes, the value does not matter.
our $PATIENCE = 60;

sub _prctl {
    my ($option, $value) = @_;
    my $prctl = { x86_64 => 157, aarch64 => 167 }->{ (POSIX::uname())[4] } or return;
    eval { syscall($prctl, $option, $value, 0, 0, 0) };
}

# PR_SET_CHILD_SUBREAPER: a daemon, or a new master whose old one has ended, becomes a child of this process.
sub _adopt_orphans { _prctl(36, 1) }

# PR_SET_PDEATHSIG: if the test is killed and cannot clean up, its NGINX ends too.
sub _die_with_parent { _prctl(1, POSIX::SIGTERM()) }

sub wait_until {
    my ($seconds, $condition) = @_;
    my $limit = time + $seconds;
    my $pause = 0.005;
    while (1) {
        my $value = $condition->();
        return $value if $value;
        return if time > $limit;
        # longer waits check less often, since a check takes time too
        sleep $pause;
        $pause *= 1.3 if $pause < 0.05;
    }
}

# Runs a command without a shell. Returns its exit status and the output of both streams.
sub run_command {
    my (@command) = @_;
    my %option = ref $command[-1] eq 'HASH' ? %{ pop @command } : ();
    my $in = File::Temp->new;
    print {$in} $option{input} if defined $option{input};
    $in->flush;
    my $output = File::Temp->new;
    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid == 0) {
        alarm 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM INT TERM HUP PIPE);
        _die_with_parent();
        open STDIN, '<', $in->filename;
        open STDOUT, '>', $output->filename;
        $option{stdout_only} ? open(STDERR, '>', '/dev/null') : open(STDERR, '>&STDOUT');
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    my $limit = time + ($option{timeout} || 60);
    while (waitpid($pid, POSIX::WNOHANG()) == 0) {
        if (time > $limit) { kill KILL => $pid; waitpid $pid, 0; last }
        sleep 0.005;
    }
    my $status = $? >> 8 || ($? ? 255 : 0);
    open my $file, '<', $output->filename;
    binmode $file;
    local $/;
    my $text = <$file>;
    return ($status, defined $text ? $text : '');
}

1;
