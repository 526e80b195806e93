package Test::RequestCpu::Figures;

# Compares figures on a machine whose speed changes.

use strict;
use warnings;

use Exporter qw(import);
use Test::More;

our @EXPORT_OK = qw(least median sum within);

# The minimum cost of several kinds of work, on a machine whose speed changes. All kinds are done in turn, and again
# until a condition on the figures holds, but at most so many times. Other load makes work cost more, but never less
# than it does, so the minimum of each kind counts. Returns the minimums in the order of the functions.
sub least {
    my ($holds, @kinds) = @_;
    my ($least_rounds, $most_rounds) = (3, 60);
    my @least;
    for my $round (1 .. $most_rounds) {
        for my $n (0 .. $#kinds) {
            my $figure = $kinds[$n]->();
            $least[$n] = $figure if !defined $least[$n] || $figure < $least[$n];
        }
        last if $round >= $least_rounds && $holds->(@least);
    }
    return @least;
}

sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[@sorted / 2] }
sub sum { my $sum = 0; $sum += $_ for @_; return $sum }

# Checks that a / b is between two limits.
sub within {
    my ($part, $whole, $low, $high, $name) = @_;
    my $ratio = $whole ? $part / $whole : 0;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    diag(sprintf '%.4f in %s to %s: %s', $ratio, $low, $high, $name) if $ENV{TEST_VERBOSE};
    return ok($whole > 0 && $ratio >= $low && $ratio <= $high, $name)
        || diag(sprintf '%s of %s is %.4f, not in %s to %s', $part, $whole, $ratio, $low, $high);
}

1;
