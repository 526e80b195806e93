# One run of one file of NGINX's test suite: starts it, ends it at its time limit, and reads its result.
package NginxTests::Run;

use strict;
use warnings;
use Exporter qw(import);
use File::Path qw(make_path remove_tree);
use POSIX ();
use TAP::Parser;
use Time::HiRes qw(time);
use Tool qw(lines slurp spew);

our @EXPORT_OK = qw(end_all result run_all);

# ---- running ------------------------------------------------------------------------------------------------------

# The runs that have not ended, by process number.
my %running;

# Runs all of them, so many at a time. A run has the members
#   file      the path of the test
#   folder    a folder that does not exist yet: for temporary files of the test, and removed at the end
#   env       more environment variables
#   log       the file to which the server logs each request
# and gets the member `result`. $ended is called with each run that has ended; it may return further runs.
sub run_all {
    my ($at_a_time, $time_limit, $ended, @waiting) = @_;
    while (@waiting || %running) {
        while (@waiting && keys %running < $at_a_time) {
            my $run = shift @waiting;
            start($run);
            $running{ $run->{pid} } = $run;
        }
        my @over = grep { waitpid($_->{pid}, POSIX::WNOHANG()) != 0 && ($_->{status} = $?, 1) } values %running;
        for my $run (grep { time - $_->{begin} > $time_limit } values %running) {
            next if grep { $_ == $run } @over;
            $run->{out_of_time} = 1;
            kill 'KILL', -$run->{pid};
        }
        for my $run (@over) {
            delete $running{ $run->{pid} };
            # a test that was killed, or died, leaves its servers behind; they are in its process group
            kill 'KILL', -$run->{pid};
            $run->{result} = result(slurp("$run->{folder}/output"), $run->{status}, $run->{out_of_time});
            $run->{counted} = grep { /^[1-9]/ } lines($run->{log});
            $run->{seconds} = time - $run->{begin};
            remove_tree($run->{folder});
            # next, so that a file runs with both servers at about the same time
            unshift @waiting, $ended->($run);
        }
        select undef, undef, undef, 0.02 if !@over;
    }
    return;
}

# Ends what still runs.
sub end_all {
    kill 'KILL', -$_ for keys %running;
    waitpid $_, 0 for keys %running;
    %running = ();
    return;
}

sub start {
    my ($run) = @_;
    make_path("$run->{folder}/tmp");
    spew("$run->{folder}/output", '');
    $run->{begin} = time;
    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid) {
        $run->{pid} = $pid;
        return;
    }
    $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
    # a process group of its own
    POSIX::setsid();
    delete @ENV{ grep { /^TEST_NGINX_/ } keys %ENV };
    %ENV = (%ENV, TMPDIR => "$run->{folder}/tmp", %{ $run->{env} });
    open STDIN, '<', '/dev/null' or POSIX::_exit(126);
    open STDOUT, '>', "$run->{folder}/output" or POSIX::_exit(126);
    open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
    exec {$^X} $^X, $run->{file} or POSIX::_exit(127);
}

# ---- results ------------------------------------------------------------------------------------------------------

# What a file's output says: numbers of its tests, and `text`. Two results are the same if their texts are.
sub result {
    my ($output, $status, $out_of_time) = @_;
    my $parser = TAP::Parser->new({ tap => $output });
    my %result = (passed => 0, skipped => 0, failed => []);
    while (my $line = $parser->next) {
        next unless $line->is_test;
        if    ($line->has_skip) { $result{skipped}++ }
        elsif ($line->is_ok)    { $result{passed}++ }
        else                    { push @{ $result{failed} }, $line->number }
    }
    my ($planned, $run) = ($parser->tests_planned, $parser->tests_run);
    my @text = ("$result{passed} passed");
    push @text, "$result{skipped} skipped" if $result{skipped};
    push @text, 'failed ' . ranges(@{ $result{failed} }) if @{ $result{failed} };
    if ($out_of_time) { push @text, 'out of time' }
    elsif (!defined $planned) { push @text, 'no plan' }
    elsif ($planned != $run) { push @text, "$run of $planned tests were run" }
    # the exit status of a file is the number of its failed tests
    push @text, 'killed by signal ' . ($status & 127) if $status & 127 && !$out_of_time;
    push @text, 'exit status ' . ($status >> 8) if $status >> 8 && $status >> 8 != @{ $result{failed} };
    if (defined $planned && !$planned && $status == 0) {
        $result{skip_all} = $parser->skip_all // '';
        @text = ('skipped' . ($result{skip_all} ne '' ? ": $result{skip_all}" : ''));
    }
    $result{good} = $status == 0 && !$out_of_time && !@{ $result{failed} } && defined $planned && $planned == $run;
    $result{text} = join ', ', @text;
    return \%result;
}

# 1 2 3 7 as "1-3 7"
sub ranges {
    my (@numbers) = @_;
    my @ranges;
    for my $number (@numbers) {
        if (@ranges && $ranges[-1][1] == $number - 1) { $ranges[-1][1] = $number }
        else { push @ranges, [ $number, $number ] }
    }
    return join ' ', map { $_->[0] == $_->[1] ? $_->[0] : "$_->[0]-$_->[1]" } @ranges;
}

1;
