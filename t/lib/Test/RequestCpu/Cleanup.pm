package Test::RequestCpu::Cleanup;

# The servers and helper processes of a test file always end with it, and a test file ends in time.

use strict;
use warnings;

use POSIX ();
use Scalar::Util ();
use Test::More;

# The time limit of a test file. A hanging suite would report nothing. A file takes some seconds, but longer on a busy
# machine.
my $TIME_LIMIT = $ENV{TEST_TIME_LIMIT} || 300;

my %live;        # servers and helper processes to be stopped whatever happens, by process
my $owner = $$;  # forked children must not clean up for their parent

sub _emergency {
    my ($why, $status) = @_;
    POSIX::_exit($status) if $$ != $owner;
    diag($why);
    _clean_all();
    POSIX::_exit($status);
}

sub _clean_all {
    # a copy, because cleaning one object may remove another
    my @things = grep { defined } values %live;
    $_->_clean for @things;
    %live = ();
}

sub remember { my ($class, $thing) = @_; $live{0 + $thing} = $thing; Scalar::Util::weaken($live{0 + $thing}) }
sub forget   { my ($class, $thing) = @_; delete $live{0 + $thing} }

$SIG{ALRM} = sub { _emergency("time limit of $TIME_LIMIT seconds is over", 124) };
$SIG{$_} = sub { _emergency("stopped by a signal", 130) } for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';
alarm $TIME_LIMIT;

END {
    # $? is the exit status of the test; waitpid would overwrite it.
    if ($$ == $owner) { local ($?, $@, $!); _clean_all() }
}

1;
