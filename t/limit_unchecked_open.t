# Work that no limit can refuse makes no debt, even while it continues: requests that were answered before limits are
# checked and whose bodies are still discarded, and HTTP/2 frames that belong to no request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('http_v2', 'rewrite');
$t->html('a.txt', "plain\n");
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=z:1m;
    request_cpu zone=z;
    client_max_body_size 0;
    server {
        listen 127.0.0.1:{{port:http}};
        request_cpu_limit zone=z cores=0.02 burst=10ms;
        location / { }
        location = /old { return 301 https://old.test/; }
    }
    server {
        listen 127.0.0.1:{{port:h2}}{{http2}};
        {{http2_on}}
        request_cpu_limit zone=z cores=0.02 burst=10ms;
        location / { }
        location = /old { return 301 https://old.test/; }
    }
EOC

my %flood = (
    'bodies that are discarded after "return"' => sub {
        my ($host) = @_;
        my @open = map { $t->connect('http') } 1 .. 2;
        $_->send("POST /old HTTP/1.1\r\nHost: $host\r\nContent-Length: 100000000000\r\n\r\n") for @open;
        my ($piece, $end) = ('x' x 1_000_000, time + 3);
        while (time < $end) { for (@open) { $_->send($piece) or last } }
        return @open;
    },
    'frames of a stream that is answered by "return" and does not end' => sub {
        return frames($_[0], '/old', 0, sub { $_[0]->unknown($_[1]) }) },
    'frames of no stream after "return"' => sub { return frames($_[0], '/old', 1 << 20, sub { $_[0]->unknown }) },
    'frames of no stream after a request that was let in' => sub {
        return frames($_[0], '/a.txt', 1 << 20, sub { $_[0]->unknown }) },
);

# As many frames as NGINX reads before it reports a flood (ngx_http_v2_read_handler)
sub frames {
    my ($host, $uri, $window, $frame) = @_;
    return map {
        my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
        $client->{window} = $window;
        $client->send($client->preface, $client->request($uri, host => $host, number => \my $stream));
        $client->finish($stream) if $window;
        my $frames = join '', map { $frame->($client, $stream) } 1 .. 5000;
        for (1 .. 70) { $client->send($frames) or last }
        $client;
    } 1 .. 6;
}

my $number = 0;
for my $name (sort keys %flood) {
    my $host = 'host' . ++$number . '.test';
    # a limit begins to count with its first request
    is($t->get('/a.txt', host => $host)->{status}, 200, "$name: a request is let in before");
    my $before = $t->account('z', $host);
    my @open = $flood{$name}->($host);
    my $account;
    # charged to the account while the connections are open
    wait_until(5, sub { $account = $t->account('z', $host); return $account->{cpu_ns} - $before->{cpu_ns} > 3e8 });
    my $used = $account->{cpu_ns} - $before->{cpu_ns};
    cmp_ok($used, '>', 1e8, "$name: they use much");
    cmp_ok($account->{limit}{debt_ns}, '<', 2e7, "$name: and make no debt");
    cmp_ok($account->{limit}{refused_cpu_ns}, '>', 0.7 * $used, "$name: they count as refused requests");
    $_->close for @open;
    sleep 1.2;
    $t->quiet;
    cmp_ok($t->account('z', $host)->{limit}{debt_ns}, '<', 2e7, "$name: nor when they end");
    ok(wait_until(3, sub { $t->get('/a.txt', host => $host)->{status} == 200 }),
        "$name: requests are let in after them");
}
$t->done;
