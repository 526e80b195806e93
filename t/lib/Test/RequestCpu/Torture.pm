package Test::RequestCpu::Torture;

# Shared by the parts of tools/torture: figures for its table, a fast reader of the status, clients that count
# exactly.

use strict;
use warnings;

use Exporter 'import';
use Time::HiRes qw(time);

our @EXPORT = qw(figure accounts falls client);

# Adds a line to the table.
sub figure {
    my ($name, $value) = @_;
    Test::More::note("$name: $value");
    my $path = $ENV{TORTURE_FIGURES} or return;
    open my $file, '>>', $path or die "cannot write $path: $!\n";
    print {$file} "$name\t$value\n";
    close $file;
}

# { key => { counter => number } } of one zone. JSON::PP takes minutes for tens of thousands of accounts. So this
# reads the text of `detail=low` (location /low at the port low), in which an account has no objects except its
# responses and cores.
sub accounts {
    my ($t, $zone, %option) = @_;
    my $answer = $t->get("/low?format=json&zone=$zone", port => 'low', timeout => $option{timeout} || 20);
    die "status page answers $answer->{status}\n" if $answer->{status} != 200 || !$answer->{complete};
    my %account;
    while ($answer->{body} =~ /"([^"]*)":\{("requests":.*?"in_flight":\d+)/g) {
        my ($key, $text) = ($1, $2);
        $account{$key} = { $text =~ /"(\w+)":(\d+)/g };
    }
    return \%account;
}

# Counters that decreased from one reading of accounts to a later one, as text.
sub falls {
    my ($before, $after) = @_;
    my @falls;
    for my $key (sort keys %$before) {
        my ($old, $new) = ($before->{$key}, $after->{$key});
        if (!$new) { push @falls, "$key is gone"; next }
        push @falls, map { "$_ of $key was $old->{$_} and is $new->{$_}" }
            grep { /^(?:\dxx|requests|cpu_ns|wakeups|sent_bytes|received_bytes)$/
                && $new->{$_} < $old->{$_} } keys %$old;
    }
    return @falls;
}

# Sends requests one by one on a keep-alive connection until $more->() is false, and counts complete answers.
# $next->() returns the text of the next request and the name under which it counts. A connection that ends without an
# answer is opened again.
sub client {
    my ($t, $more, $next, %option) = @_;
    my $limit = $option{timeout} || 10;
    my %seen = (complete => {}, cut => 0, hung => 0, refused => 0, wrong => 0, slowest => 0);
    my $connection;
    while ($more->()) {
        $connection ||= eval { $t->connect('http', timeout => $limit) };
        if (!$connection) { $seen{refused}++; next }
        my ($text, $name) = $next->();
        my $start = time;
        my $answer = $connection->send($text) ? $connection->response(timeout => $limit) : { status => 0 };
        my $took = time - $start;
        $seen{slowest} = $took if $took > $seen{slowest};
        if ($answer->{status} && $answer->{complete}) {
            $answer->{status} == 200 ? $seen{complete}{$name}++ : $seen{wrong}++;
            next unless lc($answer->{headers}{connection} || '') eq 'close';
        } elsif ($took >= $limit) {
            $seen{hung}++;
        } elsif ($answer->{status}) {
            $seen{cut}++;
        } else {
            # no byte of the answer came: a client may send such a request again
            $seen{unanswered}++;
        }
        $connection->close;
        undef $connection;
    }
    $connection->close if $connection;
    return \%seen;
}

1;
