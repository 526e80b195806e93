# The noisy neighbour: of two domains one asks for many times its limit. It gets its limit, and the other one what is left.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('gzip');

# Both are so dear that clients of a test keep a worker busy, and that a refusal, which is not free, costs little beside it.
$t->html('noisy.txt', words(60_000));
$t->html('quiet.txt', words(15_000));

my ($cores, $seconds) = (0.1, 6);
my $http2 = $t->has('http_v2') ? 'listen 127.0.0.1:{{port:h2}}{{http2}}; {{http2_on}}' : '';

sub configuration {
    my ($workers) = @_;
    return (main => "worker_processes $workers;", log => 0, http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    request_cpu_limit_log_level info;
    keepalive_requests 1000000;
    gzip on; gzip_types *; gzip_comp_level 9;
    server { listen 127.0.0.1:{{port:http}}; server_name quiet.test; }
    server { listen 127.0.0.1:{{port:http}}; server_name noisy.test; $http2 request_cpu_limit zone=domains cores=$cores burst=50ms; }
EOC
}

# Clients that ask one request after the other until they are ended.
sub quiet {
    my $client = $t->connect('http');
    while (1) { $client->get('/quiet.txt', host => 'quiet.test', headers => { 'Accept-Encoding' => 'gzip' }) }
}

# At most so many times a second, refused or not.
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
    my ($rate) = @_;
    my $client = $t->connect('http');
    paced($rate, sub { $client->get('/noisy.txt', host => 'noisy.test', headers => { 'Accept-Encoding' => 'gzip' }) });
}

# Five streams in one packet
sub noisy_http2 {
    my ($rate) = @_;
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    $client->send($client->preface);
    paced($rate / 5, sub {
        $client->send(map { $client->request('/noisy.txt', host => 'noisy.test', headers => { 'Accept-Encoding' => 'gzip' }) } 1 .. 5);
        $client->finish or die "no answer\n";
        $client->{streams} = {};
    });
}

# What has been used by now.
sub reading {
    my $status = $t->status;
    my $keys = $status->{zones}{domains}{keys};
    my ($quiet, $noisy) = map { $keys->{$_} || { requests => 0, cpu_ns => 0 } } qw(quiet.test noisy.test);
    my $limit = $noisy->{limit} || { refused => 0, refused_cpu_ns => 0 };
    return {
        time => time, charged => sum(map { $_->{charged_ns} } @{ $status->{workers} }) / 1e9, quiet => $quiet->{cpu_ns} / 1e9,
        noisy => $noisy->{requests}, refused => $limit->{refused}, refused_cpu => $limit->{refused_cpu_ns} / 1e9,
        used => ($noisy->{cpu_ns} - $limit->{refused_cpu_ns}) / 1e9,
    };
}

sub over {
    my (@clients) = @_;
    my @running = map { $t->spawn($_) } @clients;
    # the burst is used up, and all are at it
    sleep 1;
    my $before = reading();
    sleep $seconds;
    my $after = reading();
    $_->end for @running;
    return { map { $_ => $after->{$_} - $before->{$_} } keys %$after };
}

for my $case ([ 'one worker', 1, \&noisy ], [ 'two workers', 2, \&noisy ], $http2 ? [ 'HTTP/2', 1, \&noisy_http2 ] : ()) {
    my ($name, $workers, $noisy) = @$case;
    $t->start(configuration($workers));
    my $dear = do { my $n = $t->measured(sub { $t->get('/noisy.txt', host => 'noisy.test', headers => { 'Accept-Encoding' => 'gzip' }) }); $n / 1e9 };
    # ten times the limit, by four clients
    my $rate = 10 * $cores / $dear / 4;
    my $both = over((sub { $noisy->($rate) }) x 4, (\&quiet) x 4);
    my $asked = $both->{noisy} * $dear / $both->{time};
    cmp_ok($asked, '>', 3 * $cores, "$name: one domain asks for many times its limit");
    # A window this short begins and ends with some requests more or less in debt.
    within($both->{used}, $cores * $both->{time}, 0.92, 1.08, "$name: it gets its limit");
    cmp_ok($both->{refused}, '>', 0.5 * $both->{noisy}, "$name: and most of its requests are refused");
    # By CPU, since what a request takes depends on what else the machine does: scripts/neighbour looks at requests, beside a
    # server that is the same without the noise. Left out of the limit is what refusals take.
    my $left = $both->{charged} - $cores * $both->{time};
    within($both->{quiet}, $left, 0.95, 1.01, "$name: the other has what is left, but for what refusals take");
    diag(sprintf '%s: %.2f cores charged, %.2f asked for, %.4f used; refusals %.4f, %d us each; the other has %.4f of the rest', $name,
        (map { $_ / $both->{time} } $both->{charged}, $both->{noisy} * $dear, $both->{used}, $both->{refused_cpu}),
        1e6 * $both->{refused_cpu} / $both->{refused}, $both->{quiet} / $left) if $ENV{TEST_VERBOSE};
    $t->check_books(name => $name);
    $t->stop;
}

$t->done(no_books => 1);
