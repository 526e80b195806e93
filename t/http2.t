# HTTP/2: one handler call of a connection has many requests.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;

my $t = Test::RequestCpu->new->need('http_v2', 'gzip');
$t->html('a.txt', "plain\n");
$t->html('text.txt', words(300_000));
$t->html('large.txt', 'x' x 3_000_000);

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:{{port:http}}{{http2}};
        {{http2_on}}
        location / { gzip on; gzip_types *; gzip_comp_level 9; gzip_min_length 100; }
        location = /burn { @{[ burn_rules(1) ]} return 200 "burnt\\n"; }
        location = /large.txt { limit_rate 100k; }
        location = /post { client_max_body_size 10m; proxy_pass http://127.0.0.1:{{port:sink}}/; }
    }
    server {
        listen 127.0.0.1:{{port:sink}};
        client_max_body_size 10m;
        request_cpu off;
        access_log off;
        location / { return 200 "sunk\\n"; }
    }
EOC

sub client { return Test::RequestCpu::HTTP2->new($t->connect('http')) }
my %gzip = (headers => { 'accept-encoding' => 'gzip' });

# One connection, two domains, all requests in one packet
my ($used, $work) = $t->worked(sub {
    my $client = client();
    my @frames = map {
        my $n = $_;
        ($client->request("/text.txt?$n", host => 'heavy.test', %gzip),
            map { $client->request("/a.txt?$n.$_", host => 'light.test') } 1 .. 5);
    } 1 .. 8;
    $client->send($client->preface, @frames);
    ok($client->finish, 'forty-eight streams are answered');
    $client->{connection}->close;
    $t->logged(48);
});
my @lines = $t->logged(48);
my @heavy = grep { $_->{host} eq 'heavy.test' } @lines;
my @light = grep { $_->{host} eq 'light.test' } @lines;
is(scalar(grep { $_->{protocol} eq 'HTTP/2.0' } @lines), 48, 'they were HTTP/2');
is("@{[ scalar @heavy ]} @{[ scalar @light ]}", '8 40', 'for two domains');
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ && $_->{wakeups} >= 1 } @lines), 48, 'each has CPU and wakeups of its own');
my ($heavy_ns, $light_ns) = (median(map { $_->{ns} } @heavy), median(map { $_->{ns} } @light));
cmp_ok($heavy_ns, '>', 10 * $light_ns, 'a stream that compresses pays for it, its neighbours do not');
my $charged = sum(map { $_->{ns} } @lines);
cmp_ok($charged, '<=', $used, 'streams together are charged no more than the thread used');
within($charged, $work, 0.9, 1.05, 'and most of its work');

my %account = map { my ($host, $n) = @$_; $host => $t->account_with('hosts', $host, $n) } [ 'heavy.test', 8 ],
    [ 'light.test', 40 ];
is($account{'heavy.test'}{requests}, 8, 'one domain has its requests');
is($account{'light.test'}{requests}, 40, 'the other one has its own');
cmp_ok($account{'heavy.test'}{cpu_ns}, '>=', sum(map { $_->{ns} } @heavy), 'and the CPU of them');
cmp_ok($account{'light.test'}{cpu_ns}, '>=', sum(map { $_->{ns} } @light), 'both');
is_deeply([ map { $account{$_}{in_flight} } sort keys %account ], [ 0, 0 ], 'nothing is in flight any more');

# An expensive stream among cheap ones in one handler call: attribution changes with each stream
$t->clear_log;
my $client = client();
$client->send($client->preface,
    (map { $client->request("/a.txt?$_", host => 'cheap.test') } 1 .. 4),
    $client->request('/burn?x=' . burn_text(20), host => 'dear.test'),
    (map { $client->request("/a.txt?$_", host => 'cheap.test') } 5 .. 8),
);
ok($client->finish, 'an expensive stream among cheap ones');
@lines = $t->logged(9);
my ($dear) = grep { $_->{host} eq 'dear.test' } @lines;
is(scalar(grep { $_->{host} eq 'cheap.test' && $_->{ns} * 10 < $dear->{ns} } @lines), 8,
    'costs its neighbours nothing');

# The next requests on the same connection
$client->send(map { $client->request("/a.txt?later$_", host => 'later.test') } 1 .. 10);
ok($client->finish, 'a connection goes on');
is($t->account_with('hosts', 'later.test', 10)->{requests}, 10, 'and so does the counting');

# Work on the connection after its last request: pings are charged to the account of that request
$t->quiet;
my $quiet = $t->account_with('hosts', 'later.test', 10);
my (undef, $pings) = $t->worked(sub {
    $client->send($client->ping) for 1 .. 3000;
    $client->{pongs} = 0;
    while ($client->{pongs} < 3000) { $client->read_frame or last }
    $client->{connection}->close;
});
is($client->{pongs}, 3000, 'pings are answered');
wait_until(60, sub { $t->account('hosts', 'later.test')->{cpu_ns} > $quiet->{cpu_ns} });
within($t->account('hosts', 'later.test')->{cpu_ns} - $quiet->{cpu_ns}, $pings, 0.6, 1.2,
    'and charged to the account of the connection\'s last request');

# A connection that never sends a request
$t->quiet;
my $before = sum(map { $_->{no_request_ns} } @{ $t->status->{workers} });
my (undef, $only_pings) = $t->worked(sub {
    my $silent = client();
    $silent->send($silent->preface);
    $silent->send($silent->ping) for 1 .. 3000;
    $silent->{pongs} = 0;
    while ($silent->{pongs} < 3000) { $silent->read_frame or last }
    $silent->{connection}->close;
});
my $after;
wait_until(60, sub { $after = sum(map { $_->{no_request_ns} } @{ $t->status->{workers} }); $after > $before });
within($after - $before, $only_pings, 0.6, 1.2,
    'a connection with pings and no request goes to connections without a request');

# Streams that the client resets
$t->clear_log;
$client = client();
$client->send($client->preface,
    map { $client->request("/large.txt?$_", host => 'reset.test', number => \my $stream) } 1 .. 5);
wait_until(60, sub { $client->read_frame; (grep { $_->{length} } values %{ $client->{streams} }) == 5 });
$client->send(map { $client->rst_stream($_) } keys %{ $client->{streams} });
@lines = $t->logged(5);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 5, 'streams that are reset are charged');
my $reset = $t->account_with('hosts', 'reset.test', 5);
is($reset->{requests}, 5, 'and counted');
is($reset->{in_flight}, 0, 'and not in flight any more');
$client->{connection}->close;

# Bodies
$t->clear_log;
$client = client();
$client->send($client->preface, $client->request('/post', host => 'post.test', method => 'POST', body => 'x' x 16_000));
ok($client->finish, 'a request with a body');
my ($post) = $t->logged(1);
is($post->{status}, 200, 'is answered');
cmp_ok($t->account_with('hosts', 'post.test', 1)->{received_bytes}, '>=', 16_000, 'its body is in the received bytes');
$client->{connection}->close;

# Under load from an independent client
SKIP: {
    skip('h2load is not here', 3) if system('h2load --version >/dev/null 2>&1');
    $t->clear_log;
    ($used, $work) = $t->worked(sub {
        my ($status, $output) = run_command('h2load', '-n', 2000, '-c', 10, '-m', 20, '-H', ':authority: load.test',
            'http://127.0.0.1:' . $t->port('http') . '/a.txt');
        like($output, qr/2000 succeeded/, '2000 streams on ten connections are answered') or diag($output);
        $t->logged(2000);
    });
    is($t->account_with('hosts', 'load.test', 2000)->{requests}, 2000, 'and counted');
    my $logged = sum(map { $_->{ns} } $t->log_lines);
    ok($logged <= $used && $logged > $work / 2,
        'their charges are at most the CPU of the thread, and most of its work')
        or diag("$logged of $used, $work of it work");
}

$t->done;
