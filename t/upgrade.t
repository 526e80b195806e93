# Long requests are visible while they run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->html('long.txt', 'x' x 400_000);

# large enough that sending it costs more than closing a connection
my $text = 'x' x 20_000;
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    if (($request->{headers}{upgrade} || '') eq 'websocket') {
        $connection->send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        while (defined(my $line = $connection->read_until(qr/\n/))) { $connection->send("echo $line") }
        return 0;
    }
    # Sends events, one after the other, until the client leaves
    $connection->send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    for (1 .. 200) { $connection->send("data: $_ $text\n\n") or last; sleep 0.03 }
    return 0;
});

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { limit_rate 100k; }
        location /socket {
            proxy_pass http://127.0.0.1:{{port:upstream}};
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
        }
        location /events { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_buffering off; }
    }
EOC

# An upgraded connection
my $socket = $t->connect('http');
$socket->request('/socket', host => 'socket.test', headers => { Upgrade => 'websocket', Connection => 'Upgrade' });
is($socket->response->{status}, 101, 'a connection is upgraded');

my $told = 0;
sub talk {
    my ($seconds) = @_;
    my $end = time + $seconds;
    my $said = 0;
    while (time < $end) {
        $socket->send("message $said\n");
        $told += length "message $said\n";
        defined $socket->read_until(qr/^echo message $said\n/) or return;
        $said++;
        sleep 0.005;
    }
    return $said;
}

my $said = talk(1.3);
ok($said, 'messages go to and fro');
ok(wait_until(60, sub { talk(0.1); $t->account('hosts', 'socket.test')->{cpu_ns} > 0 }),
    'its CPU is in the account while it is open');
my $first = $t->account('hosts', 'socket.test');
is($first->{requests}, 0, 'which has no finished request yet');
is($first->{in_flight}, 1, 'but one in flight');
cmp_ok($first->{wakeups}, '>=', $said / 2, 'and its wakeups, but for those of the last second');

ok(talk(1.3), 'more messages');
ok(wait_until(60, sub { talk(0.1); $t->account('hosts', 'socket.test')->{cpu_ns} > $first->{cpu_ns} }),
    'and the account grows');
my $second = $t->account('hosts', 'socket.test');
cmp_ok($second->{sent_bytes}, '>', length('echo message 0') * $said, 'with its bytes') or diag(explain($second));
is(scalar($t->log_lines), 0, 'nothing is in the log yet');

$socket->close;
my ($line) = $t->logged(1);
is($line->{status}, 101, 'the log has it when it is closed');
my $closed = $t->account_with('hosts', 'socket.test', 1);
is($closed->{responses}{'1xx'}, 1, 'and the account as a request, in its class');
is($closed->{in_flight}, 0, 'none in flight');
cmp_ok($closed->{cpu_ns}, '>=', $line->{ns}, 'with all of its CPU');
cmp_ok($closed->{cpu_ns}, '<', $line->{ns} * 1.1, 'nothing that was flushed on the way is counted twice');
is($closed->{sent_bytes}, $line->{sent}, 'nor are sent bytes');
is($closed->{received_bytes}, $line->{received} + $told, 'nor received bytes, with the messages');
cmp_ok($closed->{wakeups}, '>=', $line->{wakeups}, 'wakeups are there');
cmp_ok($closed->{wakeups}, '<=', $line->{wakeups} + 3, 'and only once');
is($closed->{by_connection_order}{1}{cpu_ns}, $line->{ns}, 'breakdowns have it as one request with all its CPU');

# Server-sent events, and a long download
$t->clear_log;
my ($events, $download) = ($t->connect('http'), $t->connect('http'));
$events->request('/events', host => 'events.test');
$download->request('/long.txt', host => 'download.test');
my %seen;
my $complete = wait_until(60, sub {
    $events->fill(0.05);
    $download->fill(0.05);
    for my $host (qw(events.test download.test)) {
        my $account = $t->account('hosts', $host);
        $seen{$host} = $account if !$seen{$host} && $account->{cpu_ns} > 0 && $account->{requests} == 0
            && $account->{sent_bytes} > 0;
    }
    return keys %seen == 2;
});
ok($complete, 'an event stream and a long download are in their accounts before they end');
for my $host (qw(events.test download.test)) {
    is($seen{$host}{in_flight}, 1, "$host: one request is in flight");
    is_deeply($seen{$host}{by_response_size} || {}, {}, "$host: and in no breakdown yet");
}
$events->close;
is(length $download->response->{body}, 400_000, 'the download ends');
$download->close;
my %line = map { $_->{host} => $_ } $t->logged(2);
for my $host (qw(events.test download.test)) {
    my $account = $t->account_with('hosts', $host, 1);
    is($account->{sent_bytes}, $line{$host}{sent}, "$host: bytes are counted once");
    ok($account->{cpu_ns} >= $line{$host}{ns} && $account->{cpu_ns} < $line{$host}{ns} * 1.7, "$host: CPU as well")
        or diag("$account->{cpu_ns} in the account, $line{$host}{ns} in the log");
    is($account->{in_flight}, 0, "$host: nothing is in flight");
}
is($t->account('hosts', 'download.test')->{by_response_size}{'1m'}{requests}, 1,
    'the download is in its class of size');

$t->done;
