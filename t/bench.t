# scripts/bench latency and peers run to their end and leave no process and no file behind. Their turns are so short
# here that the figures say nothing. A wrong argument is refused with a message that says what is allowed, before
# anything is built.
use strict;
use warnings;
use File::Temp qw(tempdir);
use FindBin;
use JSON::PP ();
use Test::More;

my $program = "$FindBin::Bin/../scripts/bench";
my $folder = tempdir(CLEANUP => 1);
local $ENV{TMPDIR} = $folder;

# Runs it: status, and all that it writes.
sub bench {
    my (@arguments) = @_;
    my $pid = open(my $out, '-|') // die "fork: $!\n";
    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        exec 'timeout', 300, $^X, $program, @arguments or die "$program: $!\n";
    }
    local $/;
    my $text = <$out>;
    close $out;
    return ($? >> 8, $text);
}

my @refused = (
    [['latency', '--loads', '0'], qr/--loads takes whole percents from 1 to 99/],
    [['latency', '--loads', '20,,80'], qr/--loads takes whole percents/],
    [['latency', '--loads'], qr/--loads takes whole percents/],
    [['latency', 'tls'], qr/"tls" is no case of "latency"; it takes static /],
    [['latency', '--traffic-log'], qr/"--traffic-log" is not for "latency"/],
    [['peers', 'static'], qr/"peers" takes no cases/],
    [['peers', '--vts', '/nowhere'], qr{there is no source of nginx-module-vts in /nowhere}],
    [['peers', '--vts', "$FindBin::Bin/.."], qr/there is no source of nginx-module-vts in /],
    [['peers', '--loads', '20'], qr/"--loads" is not for "peers"/],
    [['peers', '--rounds', 'many'], qr/--rounds takes a number above 0/],
    [['--loads', '20'], qr/"--loads" is not for "cpu"/],
    [['latencies'], qr/unknown argument "latencies"; see --help/],
);
for my $refused (@refused) {
    my ($arguments, $message) = @$refused;
    my ($status, $text) = bench(@$arguments);
    is($status, 2, "@$arguments: refused");
    like($text, $message, "@$arguments: the message");
}
my ($status, $help) = bench('--help');
is($status, 0, '--help');
like($help, qr/bench \Q$_\E/, "--help tells of $_") for qw(latency peers);

sub has { my ($name) = @_; return scalar grep { -x "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin' }

my @processors = grep { /^processor/ } split /^/, about('/proc/cpuinfo');
my @programs = qw(h2load taskset openssl cargo timeout);
my $missing = ($ENV{TEST_NGINX_VARIANT} // 'vendored') ne 'vendored' ? 'the program measures the vendored NGINX only'
    : @processors < 2 ? 'two processors are needed'
    : (map { "$_ is missing" } grep { !has($_) } @programs)[0];

my @tiny = qw(--rounds 1 --blocks 1);
SKIP: {
    skip $missing, 4 if $missing;
    my @short = (@tiny, '--seconds', '0.02', '--loads', '20,50');
    my ($status, $text) = bench('latency', @short, 'static', '--json', "$folder/latency.json");
    is($status, 0, 'latency runs to its end') or diag $text;
    my $row = qr/\s+(?:[\d.]+|-)\s+(?:[\d.]+ ±[\d.]+|-)\s+(?:[\d.]+ ±[\d.]+|-)\n/;
    like($text, qr/^static\s+20 %\s+[\d,]+\s+p50$row\s+p99$row\s+p99\.9$row^static\s+50 %\s/m,
        'a row for each load and percentile');
    like($text, qr/^static\s+50 %\s+\d+%\s+\d+%\s+\d of 2\s+\d of 2\s+[\d.]+%\s+[\d.]+ us$/m, 'what stands behind it');
    my $turns = turns("$folder/latency.json", 'static', 'turns', 20);
    is("@$turns", "without $turns->[1] without $turns->[3] without", 'the reference between the others');
}
SKIP: {
    $missing //= 'haproxy is missing (apt-get install haproxy)' unless has('haproxy');
    skip $missing, 4 if $missing;
    my ($status, $text) = bench('peers', @tiny, qw(--seconds 0.001 --json), "$folder/peers.json");
    is($status, 0, 'peers runs to its end') or diag $text;
    my $ratio = qr/\s+[\d.]+ ±[\d.]+/;
    like($text, qr/^HAProxy\s+off\s+off-again\s+on\s.*\n^static\s.*[\d.]+$ratio$ratio\s/m,
        'HAProxy is compared with itself');
    for my $shares (4, 2) {
        like($text, qr/^handshake-ecdsa\s.*?[\d.]+(?:\s+[\d.]+ % ±\s*[\d.]+){$shares}$/m,
            "$shares shares of the CPU time");
    }
    like($text, qr/nginx-module-vts was left out: --vts names the folder/,
        'it says that nginx-module-vts was left out');
}
sleep 1;
is(join(' ', glob "$folder/request-cpu-bench-*"), '', 'no folder is left');
is(join(' ', grep { about($_) =~ /\Q$folder\E/ } glob '/proc/[0-9]*/cmdline'), '', 'no process is left');
done_testing();

# Names of the servers in the order of their turns.
sub turns {
    my ($path, @keys) = @_;
    open my $file, '<', $path or return [];
    my $value = JSON::PP->new->decode(do { local $/; <$file> });
    $value = $value->{$_} for @keys;
    return [map { $_->{name} } @$value];
}

sub about { open my $file, '<', $_[0] or return ''; local $/; return <$file> // '' }
