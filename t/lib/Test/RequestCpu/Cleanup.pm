package Test::RequestCpu::Cleanup;

# Whatever happens to a test file, its servers and helper processes end with it; and it ends in time.

use strict;
use warnings;

use POSIX ();
use Scalar::Util ();
use Test::More;

# A suite that hangs tells nothing. A single file is done in seconds, but not on a machine that is busy with something
# else.
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
    # copies: cleaning one may let go of another
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
    # $? is the status that the test leaves with, and waitpid would overwrite it.
    if ($$ == $owner) { local ($?, $@, $!); _clean_all() }
}

1;
