# Ratios from turns, for scripts/bench: each turn is compared with the turns of the reference before and after it.
package Bench::Figures;

use strict;
use warnings;
use Exporter qw(import);
use List::Util qw(max min shuffle);
use Tool qw(median);

our @EXPORT_OK = qw(in_turns ratios row us);

my $calm = 0.02;    # as much may the machine change around a turn

# Calls $turn for the servers of a block in turns, with the reference between the others. The order of the others is
# drawn by lot, and turned round in the next round.
sub in_turns {
    my ($rounds, $reference, $others, $turn) = @_;
    $turn->($reference);
    my @order;
    for my $round (1 .. $rounds) {
        @order = $round % 2 == 0 ? reverse @order : shuffle @$others;
        for my $name (@order) { $turn->($name); $turn->($reference) }
    }
    return;
}

# Of turns in their order, each with name, block, CPU per request ("ns") and "stolen": by name, the ratio of a value to
# the reference, and how many turns were left out. A turn that is late, or beside one, never counts: the client did not
# do what it was told to.
sub ratios {
    my ($reference, $turns, $value) = @_;
    my (%compared, %ratio);
    my ($all, $late, $left_out) = (0, 0, 0);
    for my $at (1 .. $#$turns) {
        my ($before, $turn, $after) = @$turns[$at - 1 .. $at + 1];
        next if $turn->{name} eq $reference;
        $all++;
        if (grep { $_->{late} } $before, $turn, $after) { $late++; next }
        push @{ $compared{ $turn->{name} } }, {
            block => $turn->{block},
            log => log($value->($turn)) - (log($value->($before)) + log($value->($after))) / 2,
            unrest => max(abs(log($before->{ns} / $after->{ns})), map { $_->{stolen} } $before, $turn, $after),
        };
    }
    for my $name (keys %compared) {
        my @turns = sort { $a->{unrest} <=> $b->{unrest} } @{ $compared{$name} };
        my $limit = max($calm, $turns[$#turns / 2]{unrest});
        my @kept = grep { $_->{unrest} <= $limit } @turns;
        $left_out += @turns - @kept;
        $ratio{$name} = middle(@kept);
    }
    return (ratio => \%ratio, turns => $all, left_out => $left_out, late => $late);
}

# Median and spread of ratios, and half the width of the median's 95 % interval, for which blocks are drawn by lot.
sub middle {
    my (@kept) = @_;
    my %logs;
    push @{ $logs{ $_->{block} } }, $_->{log} for @kept;
    my @blocks = values %logs;
    my @logs = sort { $a <=> $b } map { $_->{log} } @kept;
    my @drawn = sort { $a <=> $b } map { median(map { @{ $blocks[rand @blocks] } } @blocks) } 1 .. 1000;
    my ($low, $first, $median, $third, $high) =
        map { exp } quantile(0.025, @drawn), (map { quantile($_, @logs) } 0.25, 0.5, 0.75), quantile(0.975, @drawn);
    return { median => $median, half => ($high - $low) / 2, spread => ($third - $first) / 2 };
}

# Ratios as columns of a table.
sub row {
    my ($ratio, @names) = @_;
    return join '', map { $_ ? sprintf ' %5.3f ±%.3f', @$_{qw(median half)} : sprintf '%13s', '-' } @$ratio{@names};
}

sub us { my $us = $_[0] / 1000; return sprintf $us < 100 ? '%.2f' : '%.0f', $us }

# of sorted values, interpolated
sub quantile {
    my ($q, @values) = @_;
    my $at = $q * $#values;
    my ($low, $high) = (int $at, min(int($at) + 1, $#values));
    return $values[$low] + ($at - $low) * ($values[$high] - $values[$low]);
}

1;
