# CPU time per request, as a ratio to the same NGINX without the module.
package Bench::Cpu;

use strict;
use warnings;
use Bench::Cases qw(@cases);
use Bench::Figures qw(in_turns ratios row us);
use Bench::Load qw(calibrate load);
use Bench::Processes qw(%option cpu_ns stop);
use Bench::Servers qw(kinds start start_origin);
use Exporter qw(import);
use File::Path qw(remove_tree);
use HTTP::Tiny;
use JSON::PP ();
use List::Util qw(max shuffle);
use POSIX ();
use Tool qw(median progress spew);

our @EXPORT_OK = qw(compare status);

my (@kinds, $reference);

sub compare {
    @_ = @cases unless @_;
    @kinds = kinds();
    $reference = $kinds[0][0];
    my @names = map { $_->[0] } @kinds;
    my @others = @names[1 .. $#names];
    printf "%d rounds of %s s in %d blocks; microseconds of CPU per request, and ratios to \"$reference\"\n\n",
        @option{qw(rounds seconds blocks)};
    printf "%-16s%-35s%8s" . '%13s' x @others . "\n", 'case', '', $reference, @others;
    my (%raw, @results);
    for my $case (@_) {
        my $turns = $raw{ $case->{name} } = measure($case);
        if (defined $option{json}) { spew($option{json}, JSON::PP->new->canonical->encode(\%raw)) }
        my $result = { case => $case, summary($turns) };
        push @results, $result;
        printf "%-16s%-35s%8s", $case->{name}, $case->{about}, us($result->{ns}{$reference});
        print row($result->{ratio}, @others), "\n";
    }
    how(\@others, @results);
    return;
}

# All turns of a case in their order, each with its block, and what the status pages say at the end of each block.
sub measure {
    my ($case) = @_;
    my (@turns, @status, $requests);
    for my $block (1 .. $option{blocks}) {
        progress("$case->{name}: block $block of $option{blocks}");
        my $origin = start_origin();
        my %server = map { $_->[0] => start($case, $_, $origin) } shuffle @kinds;
        my $turn = sub {
            my ($name) = @_;
            push @turns, { block => $block, name => $name, %{ load($case, $server{$name}, $requests) } };
        };
        $requests //= calibrate($case, $server{$reference});
        # caches are warm from here on, and there are accounts of nearly all keys
        load($case->{keys} ? { %$case, turn => 10 } : $case, $_, $requests) for values %server;
        my $rounds = POSIX::ceil($option{rounds} / $option{blocks} / $case->{turn});
        in_turns($rounds, $reference, [grep { $_ ne $reference } keys %server], $turn);
        push @status, map { $_->{clock} ? status($_) : () } values %server;
        stop(map { $_->{pid} } values %server, $origin);
        remove_tree(map { $_->{prefix} } values %server, $origin);
    }
    progress('');
    return { requests => $requests, turns => \@turns, status => \@status };
}

# Of the turns of a case: CPU per request by server, ratios by server, how busy the worker was, turns that were left
# out.
sub summary {
    my ($measured) = @_;
    my @turns = @{ $measured->{turns} };
    my @of_reference = grep { $_->{name} eq $reference } @turns;
    my %ns;
    push @{ $ns{ $_->{name} } }, $_->{ns} for @turns;
    my %status;
    for my $status (@{ $measured->{status} }) {
        $status{ $status->{name} }{$_} += $status->{$_} for grep { $_ ne 'name' } keys %$status;
    }
    return (
        ns => { map { $_ => median(@{ $ns{$_} }) } keys %ns }, status => \%status,
        (map { my $what = $_; $what => median(map { $_->{$what} } @of_reference) } qw(busy waited)),
        ratios($reference, \@turns, sub { $_[0]{ns} }),
    );
}

# What stands behind the ratios.
sub how {
    my ($others, @results) = @_;
    my @measured = grep { $results[0]{status}{$_} } @$others;
    print <<"TEXT";

busy, waits: time that the worker without the module runs, or waits for its processor; left out: turns, since the
machine changed around them; spread: half the distance of the quartiles of the rounds' ratios; readings: of the
thread clock

TEXT
    printf "%-16s%5s%6s%13s" . '%8s' x @$others . '%18s' x @measured . "\n", 'case', 'busy', 'waits', 'left out',
        'spread:', ('') x $#$others, ('readings per') x @measured;
    printf "%40s" . '%8s' x @$others . '%18s' x @measured . "\n", '', @$others, map { "request/wakeup" } @measured;
    for my $result (@results) {
        printf "%-16s%4.0f%%%5.0f%%%13s", $result->{case}{name}, 100 * $result->{busy}, 100 * $result->{waited},
            "$result->{left_out} of $result->{turns}";
        printf '   %.3f', $result->{ratio}{$_}{spread} for @$others;
        printf '%18s', readings($result->{status}{$_}) for @measured;
        print "\n";
    }
    for my $name (@measured) {
        my %sum;
        for my $status (map { $_->{status}{$name} } @results) { $sum{$_} += $status->{$_} for keys %$status }
        printf <<"TEXT", $name,

books of "%s": charged %.3f %% of the CPU outside of the event loop, which has %.2f %% of all; the owners' sum is %d ns
off thread_cpu_ns, which is %.3f %% below the kernel's count for the processes; thread clock read %s
TEXT
            100 * $sum{charged_ns} / ($sum{thread_cpu_ns} - $sum{loop_ns}), 100 * $sum{loop_ns} / $sum{thread_cpu_ns},
            $sum{charged_ns} + $sum{no_request_ns} + $sum{loop_ns} + $sum{other_ns} - $sum{thread_cpu_ns},
            100 * (1 - $sum{thread_cpu_ns} / $sum{kernel_ns}), readings(\%sum);
    }
    return;
}

sub readings {
    my ($sum) = @_;
    defined $sum->{clock_readings} or return '-';
    return sprintf '%.3f/%.3f', map { $sum->{clock_readings} / max(1, $sum->{$_}) } qw(requests wakeups);
}

# The books of a server's worker, its requests, and what the kernel has counted for it.
sub status {
    my ($server) = @_;
    my $address = "http://127.0.0.1:$server->{port}{plain}/cpu?zone=domains&format=json";
    my $answer = HTTP::Tiny->new(timeout => 10)->get($address);
    my ($kernel_ns) = cpu_ns($server->{worker});
    $answer->{success} or die "bench: no status: $answer->{status} $answer->{reason}\n";
    my $status = JSON::PP->new->decode($answer->{content});
    my %worker = %{ $status->{workers}[0] };
    delete @worker{qw(worker pid)};
    return { name => $server->{name}, kernel_ns => $kernel_ns, requests => $server->{asked}, %worker };
}

1;
