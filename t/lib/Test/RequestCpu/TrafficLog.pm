package Test::RequestCpu::TrafficLog;

# Reads traffic logs, and compares their sums with the counters of the status.

use strict;
use warnings;

use Exporter 'import';
use JSON::PP ();
use Test::More;
use Test::RequestCpu qw(wait_until);

our @EXPORT = qw(text_of lines_of sums_of counters_of final_counters_of sums_are_counters unwritten peaks_of peaks_are_peaks);

my @plain = qw(requests cpu_ns wakeups sent_bytes received_bytes duration_ms active_ms active_seconds billable_cpu_ns waived_cpu_ns memory_byte_ms);
my @members = (@plain, qw(1xx 2xx 3xx 4xx 5xx other refused));
my $number = qr/(?:0|[1-9][0-9]*)/;
my $string = qr/"(?:[^"\\\x00-\x1f]|\\(?:["\\\/bfnrt]|u[0-9a-f]{4}))*"/;
my $line = qr/\{"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ)","interval_ms":($number),
    "host":($string),"zone":($string),"key":($string),
    "requests":($number),"cpu_ns":($number),"wakeups":($number),"sent_bytes":($number),"received_bytes":($number),
    "2xx":($number),"4xx":($number),"5xx":($number),
    "duration_ms":($number),"active_ms":($number),"active_seconds":($number),"billable_cpu_ns":($number),"waived_cpu_ns":($number),
    "memory_byte_ms":($number),"peak_cpu_ns":($number)((?:,"(?:[13]xx|other|refused)":$number)*)\}/x;
my @names = qw(time interval_ms host zone key requests cpu_ns wakeups sent_bytes received_bytes 2xx 4xx 5xx
    duration_ms active_ms active_seconds billable_cpu_ns waived_cpu_ns memory_byte_ms peak_cpu_ns);

sub text_of {
    my (@files) = @_;
    my $text = '';
    for my $name (@files) {
        open my $file, '<', $name or next;
        binmode $file;
        local $/;
        my $content = <$file>;
        $text .= $content if defined $content;
    }
    return $text;
}

# All lines of some files; dies if a line is invalid.
sub lines_of {
    my (@files) = @_;
    my $text = text_of(@files);
    die "the last line is torn: ..." . substr($text, -100) . "\n" if $text ne '' && $text !~ /\n\z/;
    # JSON::PP would take a minute for the lines of a test
    my $json = JSON::PP->new->utf8->allow_nonref;
    my %decoded;
    return map {
        my %line;
        (@line{@names}, my $more) = /^$line$/ or die "not a line of a traffic log: $_\n";
        $_ = $decoded{$_} = defined $decoded{$_} ? $decoded{$_} : $json->decode($_) for @line{qw(host zone key)};
        $line{$1} = $2 while $more =~ /"(\w+)":(\d+)/g;
        \%line;
    } split /\n/, $text;
}

# { zone => { key => { member => sum } } }
sub sums_of {
    my (@lines) = @_;
    my %sum;
    for my $line (@lines) { $sum{ $line->{zone} }{ $line->{key} }{$_} += $line->{$_} || 0 for @members }
    return \%sum;
}

# { zone => { key => nanoseconds } }: the largest CPU of one second in the lines
sub peaks_of {
    my (@lines) = @_;
    my %peak;
    for my $line (@lines) {
        my $peak = \$peak{ $line->{zone} }{ $line->{key} };
        $$peak = $line->{peak_cpu_ns} if !defined $$peak || $line->{peak_cpu_ns} > $$peak;
    }
    return \%peak;
}

# The highest peak of each key's lines is the peak of its account, if these files have all its counts. If the last
# second has just ended, the peak may be in a line that is still to come.
sub peaks_are_peaks {
    my ($t, $zone, $name, @files) = @_;
    my @wrong;
    wait_until(60, sub {
        my $keys = $t->status("zone=$zone&detail=low")->{zones}{$zone}{keys};
        my $peaks = peaks_of(lines_of(@files))->{$zone} || {};
        @wrong = map {
            my ($counted, $told) = (sprintf('%.0f', $keys->{$_}{peak_cores} * 1e9), $peaks->{$_} || 0);
            $counted == $told ? () : "$_: $told in lines, $counted counted";
        } sort keys %$keys;
        return !@wrong;
    });
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(!@wrong, $name) || diag(join "\n", @wrong[ 0 .. ($#wrong > 20 ? 20 : $#wrong) ]);
}

# The counters of a zone in the same form, from the status.
sub counters_of {
    my ($t, $zone) = @_;
    my $keys = $t->status("zone=$zone&detail=low")->{zones}{$zone}{keys};
    my %counter;
    for my $key (keys %$keys) {
        my $account = $keys->{$key};
        my %responses = %{ $account->{responses} || {} };
        my $classes = 0;
        $classes += $_ for values %responses;
        $counter{$key} = {
            (map { $_ => $account->{$_} } @plain), %responses, other => $account->{requests} - $classes,
            refused => ($account->{limit} || {})->{refused} || 0,
        };
    }
    return \%counter;
}

# The same when nothing runs: the last second is over, so its CPU is billable or waived.
sub final_counters_of {
    my ($t, $zone) = @_;
    $t->quiet;
    my $counters;
    wait_until(60, sub {
        $counters = counters_of($t, $zone);
        return !grep { $_->{billable_cpu_ns} + $_->{waived_cpu_ns} != $_->{cpu_ns} } values %$counters;
    });
    return $counters;
}

# Keys and members for which the sum of the lines differs from the counter.
sub unwritten {
    my ($sums, $counters) = @_;
    my @wrong;
    my %keys = map { $_ => 1 } keys %$sums, keys %$counters;
    for my $key (sort keys %keys) {
        for my $member (@members) {
            my ($sum, $counter) = map { $_->{$key}{$member} || 0 } $sums, $counters;
            push @wrong, "$key $member: $sum in lines, $counter counted" if $sum != $counter;
        }
    }
    return @wrong;
}

sub sums_are_counters {
    my ($sums, $counters, $name) = @_;
    my @wrong = unwritten($sums, $counters);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(!@wrong, $name) || diag(join "\n", @wrong[ 0 .. ($#wrong > 20 ? 20 : $#wrong) ]);
}

1;
