# Latency of small requests that are due at a constant rate, with and without the module.
package Bench::Latency;

use strict;
use warnings;
use Bench::Cases qw(%case);
use Bench::Figures qw(in_turns ratios row us);
use Bench::Load qw(calibrate cpu_of load);
use Bench::Processes qw(%option $dir @processors @running run stop);
use Bench::Servers qw(kinds start start_origin);
use Exporter qw(import);
use File::Path qw(remove_tree);
use JSON::PP ();
use List::Util qw(max shuffle sum);
use POSIX ();
use Time::HiRes qw(sleep);
use Tool qw($root fail grouped lines median progress slurp spew);

our @EXPORT_OK = qw(latency latency_cases);

my @fit = qw(static cache log limit zones-3 zones-8 proxy);
my @usual = qw(static cache log);
my @quantiles = qw(p50 p99 p99.9);

# If the client sent one in a thousand requests later than this, its turn does not count.
my $late_ns = 100_000;

my ($open_loop, @kinds, $reference);

# The cases that were asked for, if they are small requests over HTTP/1.1 without TLS.
sub latency_cases {
    my @wanted = @_ ? @_ : @case{@usual};
    for my $case (@wanted) {
        grep { $_ eq $case->{name} } @fit or fail("\"$case->{name}\" is no case of \"latency\"; it takes @fit");
        $case->{name} ne 'proxy' || @processors > 2
            or fail('"proxy" needs a third processor: the client of "latency" uses all of its own');
    }
    return @wanted;
}

sub latency {
    my @cases = @_;
    $open_loop = build_open_loop();
    @kinds = grep { $_->[0] !~ /^(?:unused|thread|logged)$/ } kinds();
    $reference = $kinds[0][0];
    my @others = map { $_->[0] } @kinds[1 .. $#kinds];
    printf "%d rounds of %s s in %d blocks; microseconds from the time at which a request was due to the end of its\n"
        . "answer, and ratios to \"$reference\"\n\n", @option{qw(rounds seconds blocks)};
    printf "%-12s%5s%12s%8s%10s" . '%13s' x @others . "\n", 'case', 'load', 'requests/s', '', $reference, @others;
    my (%raw, @results);
    for my $case (@cases) {
        my $measured = $raw{ $case->{name} } = measure($case);
        if (defined $option{json}) { spew($option{json}, JSON::PP->new->canonical->encode(\%raw)) }
        for my $load (@{ $option{loads} }) {
            my $result = { case => $case, load => $load, summary($measured, $load) };
            push @results, $result;
            my @about = ($case->{name}, "$load %", grouped($measured->{rate}{$load}));
            for my $quantile (@quantiles) {
                my $values = $result->{values}{$quantile};
                my $ratios = row($values->{ratio}, @others);
                my $median = defined $values->{median} ? us($values->{median}) : '-';
                printf "%-12s%5s%12s%8s%10s%s\n", @about, $quantile, $median, $ratios;
                @about = ('', '', '');
            }
        }
    }
    how(@results);
    return;
}

# The turns of a case by load, each with its block.
sub measure {
    my ($case) = @_;
    my (%rate, %turns, $capacity);
    for my $block (1 .. $option{blocks}) {
        my $origin = start_origin($processors[2]);
        my %server = map { $_->[0] => start($case, $_, $origin) } shuffle @kinds;
        if (!defined $capacity) {
            progress("$case->{name}: capacity");
            $capacity = capacity($case, $server{$reference});
            %rate = map { $_ => max(1, $capacity * $_ / 100) } @{ $option{loads} };
        }
        for my $load (shuffle @{ $option{loads} }) {
            progress("$case->{name}: block $block of $option{blocks}, $load %");
            # caches are warm from here on
            at_rate($case, $_, $rate{$load}, 0.2) for values %server;
            my $turn = sub {
                my ($name) = @_;
                my $measured = at_rate($case, $server{$name}, $rate{$load}, $option{seconds});
                push @{ $turns{$load} }, { block => $block, name => $name, %$measured };
            };
            my $rounds = POSIX::ceil($option{rounds} / $option{blocks});
            in_turns($rounds, $reference, [grep { $_ ne $reference } keys %server], $turn);
        }
        stop(map { $_->{pid} } values %server, $origin);
        remove_tree(map { $_->{prefix} } values %server, $origin);
    }
    progress('');
    return { capacity => $capacity, rate => \%rate, turns => \%turns };
}

# Requests per second of the worker's CPU, in a closed loop. How long it takes on the wall depends on the client too.
sub capacity {
    my ($case, $server) = @_;
    local $option{seconds} = 0.2;
    my $requests = calibrate($case, $server);
    return 1e9 / median(map { load($case, $server, $requests)->{ns} } 1 .. 5);
}

# One turn of a server at a constant rate.
sub at_rate {
    my ($case, $server, $rate, $seconds) = @_;
    my $answer;
    my @arguments = ("127.0.0.1:$server->{port}{plain}", $case->{path}, '--rate', $rate);
    push @arguments, '--seconds', max($seconds, 2 / $rate);
    my $turn = cpu_of($server, sub {
        $answer = open_loop(@arguments);
        return @$answer{qw(requests seconds)};
    });
    return {
        %$turn, (map { $_ => $answer->{latency_ns}{$_} } @quantiles), lag => $answer->{lag_ns},
        late => $answer->{lag_ns}{'p99.9'} > $late_ns ? 1 : 0,
        late_share => $answer->{late_seconds} / $answer->{seconds},
    };
}

sub open_loop {
    my (@arguments) = @_;
    my $pid = run($processors[1], "$dir/open-loop.out", $open_loop, @arguments);
    sleep 0.002 until waitpid $pid, POSIX::WNOHANG();
    my $status = $?;
    @running = grep { $_ != $pid } @running;
    $status == 0 or die "bench: open-loop failed:\n", lines("$dir/open-loop.out"), "\n";
    return JSON::PP->new->decode(slurp("$dir/open-loop.out"));
}

sub build_open_loop {
    local $ENV{CARGO_TARGET_DIR} = "$root/target/open-loop";
    my @build = qw(cargo build --release --locked --quiet --package request-cpu-open-loop);
    system(@build, '--manifest-path', "$root/Cargo.toml") == 0 or die "bench: open-loop was not built\n";
    return "$ENV{CARGO_TARGET_DIR}/release/open-loop";
}

sub summary {
    my ($measured, $load) = @_;
    my $turns = $measured->{turns}{$load};
    my @of_reference = grep { $_->{name} eq $reference } @$turns;
    my (%values, %summary);
    for my $quantile (@quantiles) {
        my %ratios = ratios($reference, $turns, sub { $_[0]{$quantile} });
        my @counted = map { $_->{late} ? () : $_->{$quantile} } @of_reference;
        $values{$quantile} = { ratio => $ratios{ratio}, @counted ? (median => median(@counted)) : () };
        @summary{qw(turns left_out late)} = @ratios{qw(turns left_out late)};
    }
    return (
        %summary, values => \%values,
        (map { my $what = $_; $what => median(map { $_->{$what} } @of_reference) } qw(busy waited)),
        late_share => sum(map { $_->{late_share} } @$turns) / @$turns,
        lag => median(map { $_->{lag}{'p99.9'} } @$turns),
    );
}

# What stands behind the ratios.
sub how {
    my @results = @_;
    print <<"TEXT";

busy, waits: time that the worker of "$reference" runs, or waits for its processor
changed: comparisons that were left out, since the machine changed around them
client: comparisons that were left out, since the client was late in one of their turns
late: time of the client in which a request was due and not sent, and how late it sent at the 99.9th percentile, over
    all turns

TEXT
    printf "%-12s%5s%7s%7s%14s%14s%10s%12s\n", qw(case load busy waits changed client late p99.9);
    for my $result (@results) {
        printf "%-12s%5s%6.0f%%%6.0f%%%14s%14s%9.2f%%%9s us\n", $result->{case}{name}, "$result->{load} %",
            (map { 100 * $result->{$_} } qw(busy waited)),
            (map { "$result->{$_} of $result->{turns}" } qw(left_out late)),
            100 * $result->{late_share}, us($result->{lag});
    }
    return;
}

1;
