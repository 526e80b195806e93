# The noisy neighbour: one of two domains requests many times its limit. It gets its limit, and the other domain gets
# the rest.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(max min);
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Time::HiRes qw(sleep time);
use Time::Local qw(timegm);

my $t = Test::RequestCpu->new->need('gzip');

# Requests of both domains are so expensive that a test's clients keep a worker busy, and that a refusal costs little
# in comparison.
$t->html('noisy.txt', words(30_000));
$t->html('quiet.txt', words(15_000));

my ($burst, $seconds) = (0.3, 6);
my $http2 = $t->has('http_v2') ? 'listen 127.0.0.1:{{port:h2}}{{http2}}; {{http2_on}}' : '';

sub configuration {
    my ($workers, $cores) = @_;
    return (main => "worker_processes $workers;", log => 0, http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu_zone \$host zone=all:1m;
    request_cpu zone=domains zone=all;
    request_cpu_limit_log_level info;
    keepalive_requests 1000000;
    gzip on; gzip_types *; gzip_comp_level 9;
    server { listen 127.0.0.1:{{port:http}}; server_name quiet.test unlimited.test; }
    server { listen 127.0.0.1:{{port:http}}; server_name noisy.test;
        $http2 request_cpu_limit zone=domains cores=$cores burst=@{[ 1000 * $burst ]}ms; }
EOC
}

# Clients that send one request after the other until they are stopped.
sub quiet {
    my $client = $t->connect('http');
    while (1) { $client->get('/quiet.txt', host => 'quiet.test', headers => { 'Accept-Encoding' => 'gzip' }) }
}

# Sends at most so many requests a second, refused or not.
sub paced {
    my ($rate, $ask) = @_;
    my $next = time;
    while (1) {
        $ask->();
        $next += 1 / $rate;
        my $wait = $next - time;
        if ($wait > 0) { sleep $wait } else { $next = time }
    }
}

sub noisy {
    my ($rate, $host) = @_;
    my $client = $t->connect('http');
    paced($rate, sub { $client->get('/noisy.txt', host => $host || 'noisy.test',
        headers => { 'Accept-Encoding' => 'gzip' }) });
}

# Five streams in one packet
sub noisy_http2 {
    my ($rate) = @_;
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    $client->send($client->preface);
    paced($rate / 5, sub {
        $client->send(map { $client->request('/noisy.txt', host => 'noisy.test',
            headers => { 'Accept-Encoding' => 'gzip' }) } 1 .. 5);
        $client->finish or die "no answer\n";
        $client->{streams} = {};
    });
}

# The CPU used until now, in seconds; the time is that of the status.
sub reading {
    my $status = $t->status;
    my $keys = $status->{zones}{domains}{keys};
    my ($quiet, $noisy) = map { $keys->{$_}
        || { requests => 0, cpu_ns => 0, in_flight => 0 } } qw(quiet.test noisy.test);
    my $limit = $noisy->{limit} || { refused => 0, refused_cpu_ns => 0, debt_ns => 0 };
    return {
        time => seconds_of($status->{time}), charged => sum(map { $_->{charged_ns} } @{ $status->{workers} }) / 1e9,
            quiet => $quiet->{cpu_ns} / 1e9,
        noisy => $noisy->{requests}, in_flight => $noisy->{in_flight}, refused => $limit->{refused},
        refused_cpu => $limit->{refused_cpu_ns} / 1e9,
        used => ($noisy->{cpu_ns} - $limit->{refused_cpu_ns}) / 1e9, debt => $limit->{debt_ns} / 1e9,
    };
}

# A reading while the noisy domain is in debt: then all CPU that its bucket has received so far has been used. And
# none of its requests runs: then their usage is what they are charged. Its clients are stopped for that. Returns
# nothing if the domain does not get into debt.
sub reading_in_debt {
    my (@noisy) = @_;
    return wait_until(20, sub {
        my $now;
        kill STOP => map { -$_->pid } @noisy;
        # without delay: a debt of a millisecond is paid in ten
        for (1 .. 10) { $now = reading(); last if !$now->{in_flight} }
        kill CONT => map { -$_->pid } @noisy;
        return $now if $now->{debt} > 0 && !$now->{in_flight};
        sleep 0.02 + rand 0.05;
        return;
    });
}

sub seconds_of {
    my ($text) = @_;
    my ($year, $month, $day, $hour, $minute, $second) = $text =~ /^(\d+)-(\d+)-(\d+)T(\d+):(\d+):([\d.]+)Z$/
        or die "a time: $text\n";
    return timegm(0, $minute, $hour, $day, $month - 1, $year) + $second;
}

# CPU per second that the noisy domain gets beside the other one without a limit. It is little on a busy machine.
sub unlimited {
    my @running = map { $t->spawn($_) } (sub { noisy(1000, 'unlimited.test') }) x 4, (\&quiet) x 4;
    my @status;
    for (1 .. 2) {
        sleep 1.5;
        push @status, $t->status;
    }
    $_->end for @running;
    my ($used, $time) = map { my $of = $_; $of->($status[1]) - $of->($status[0]) }
        sub { $_[0]{zones}{all}{keys}{'unlimited.test'}{cpu_ns} / 1e9 }, sub { seconds_of($_[0]{time}) };
    return $used / $time;
}

sub since { my ($before, $now) = @_; return { map { $_ => $now->{$_} - $before->{$_} } keys %$now } }

my %gzip = (headers => { 'Accept-Encoding' => 'gzip' });
for my $case ([ 'one worker', 1, \&noisy ], [ 'two workers', 2, \&noisy ],
    $http2 ? [ 'HTTP/2', 1, \&noisy_http2 ] : ()) {
    my ($name, $workers, $noisy) = @$case;
    my ($first, $over, $before, $after, $seen, $cores);
    # a machine that has become much slower must not decide
    for my $try (1 .. 5) {
        $t->start(configuration($workers, 1000));
        # a quarter of what the noisy domain would get
        $cores = sprintf '%.3f', min(0.1, max(0.01, unlimited() / 4));
        $t->reload(configuration($workers, $cores));
        wait_until(60, sub { !$t->workers(old => 1) });
        # measured with the other domain, so that the bucket is full and was never checked
        my $dear = median(map {
            $t->measured(sub { $t->get('/noisy.txt', host => 'quiet.test', %gzip) }) } 1 .. 5) / 1e9;
        # ten times the limit, by four clients
        my $rate = 10 * $cores / $dear / 4;
        my $start = reading();
        my @noisy = map { $t->spawn($_) } (sub { $noisy->($rate) }) x 4;
        my @quiet = map { $t->spawn($_) } (\&quiet) x 4;
        # the first request came between these two readings
        $seen = undef;
        my $used_up = wait_until(30, sub {
            my $now = reading();
            $start = $now if !$now->{noisy};
            $seen ||= $now if $now->{noisy};
            sleep 0.02;
            return $now->{refused};
        });
        sleep 0.5;
        $before = $used_up && reading_in_debt(@noisy);
        sleep $seconds if $before;
        $after = $before && reading_in_debt(@noisy);
        $_->end for @noisy, @quiet;
        if ($after) {
            ($first, $over) = (since($start, $before), since($before, $after));
            last if $over->{refused} > 0;
        }
        note("$name: it did not ask for more than its limit of $cores cores");
        last if $try == 5;
        $t->stop;
    }
    if (!ok($after, "$name: the burst is used up")) {
        $t->stop;
        next;
    }

    # The debt is CPU that was served and is not paid yet. Without it, figures depend neither on how many requests
    # ended at that very moment, nor on their cost on a slow machine.
    my $begin = $first->{used} - $first->{debt};
    my $should = $burst + $cores * $first->{time};
    cmp_ok($begin, '<', 1.03 * $should, "$name: at first it gets no more than its burst");
    cmp_ok($begin, '>', 0.97 * ($burst + $cores * ($before->{time} - $seen->{time})), "$name: and no less");
    my $got = $over->{used} - $over->{debt};
    within($got, $cores * $over->{time}, 0.97, 1.03, "$name: then it gets its limit");
    my $served = $over->{noisy} - $over->{refused};
    my $each = $over->{used} / ($served || 1);
    cmp_ok($after->{debt}, '<', 8 * $each, "$name: and is in debt for some requests at most");
    cmp_ok($over->{refused}, '>', 0, "$name: and asks for more");
    # In CPU, since the cost of a request depends on the load of the machine. tools/neighbour counts requests, beside
    # an equal server without the noisy domain.
    my $left = $over->{charged} - $over->{used} - $over->{refused_cpu};
    within($over->{quiet}, $left, 0.95, 1.05, "$name: the other has what is left");
    my $refusal = $over->{refused_cpu} / ($over->{refused} || 1);
    cmp_ok($refusal, '<', 0.1 * $each, "$name: a refusal takes little of what a request does");
    diag(sprintf '%s: %.2f cores charged, %.2f asked for, %.4f x limit used, burst %.3f x; refusals %.4f, %d us each, requests %.1f ms; the other has %.4f of the rest', $name,
        (map { $_ / $over->{time} } $over->{charged}, $over->{noisy} * $each), $got / $cores / $over->{time},
        $begin / $should, $over->{refused_cpu} / $over->{time},
        1e6 * $refusal, 1e3 * $each, $over->{quiet} / $left) if $ENV{TEST_VERBOSE};
    $t->check_totals(name => $name);
    $t->stop;
}

$t->done(no_totals => 1);
