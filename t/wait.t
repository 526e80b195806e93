# Who waits does not pay for the wait.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('slow.txt', 'x' x 60_000);
$t->html('large.txt', 'x' x 3_000_000);
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    sleep 0.7;
    return $connection->answer("late\n");
});
my $drip = Test::RequestCpu::Upstream->start($t, 'drip', sub {
    my ($connection, $request) = @_;
    $connection->send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    for (1 .. 10) { sleep 0.07; $connection->send('.') }
    return 1;
});

$t->start(http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name wait.test;
        location / { }
        location = /slow.txt { limit_rate 50k; }
        location = /upstream { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /drip { proxy_pass http://127.0.0.1:{{port:drip}}; proxy_buffering off; }
        location = /body { proxy_pass http://127.0.0.1:{{port:drip}}; }
    }
    server {
        # A file must not fit into the socket's buffer, or there is nothing to wait for.
        listen 127.0.0.1:{{port:small}} sndbuf=16k;
        server_name wait.test;
        location / { }
    }
EOC

# What a wait must not do: turn up in the charge. 'took' is the client's time, which is almost all waiting.
sub is_charged_without_wait {
    my ($name, $uri, $wakeups, $code) = @_;
    my $start = time;
    my $took;
    my ($used, $work) = $t->worked(sub { $code->(); $took = time - $start; $t->logged(1, sub { $_[0]{uri} eq $uri }) });
    my ($line) = grep { $_->{uri} eq $uri } $t->log_lines;
    cmp_ok($took, '>', 0.5, "$name: the request takes its time");
    cmp_ok($line->{ns}, '<', $took * 1e9 / 10, "$name: it is not charged for it");
    cmp_ok($line->{ns}, '<=', $used, "$name: it is charged no more than the thread used");
    within($line->{ns}, $work, 0.5, 1.2, "$name: it is charged for what the thread did");
    cmp_ok($line->{wakeups}, '>=', $wakeups, "$name: its wakeups are counted");
}

is_charged_without_wait('limit_rate', '/slow.txt', 2, sub { $t->get('/slow.txt', host => 'wait.test') });
is_charged_without_wait('slow upstream', '/upstream', 2, sub { $t->get('/upstream', host => 'wait.test') });
is_charged_without_wait('upstream that answers in drops', '/drip', 8, sub { $t->get('/drip', host => 'wait.test') });
is_charged_without_wait('client that sends its header in drops', '/a.txt?header', 1, sub {
    my $connection = $t->connect('http');
    $connection->send_slowly("GET /a.txt?header HTTP/1.1\r\nHost: wait.test\r\nX-Long: " . ('x' x 200) . "\r\n\r\n", 9, 0.07);
    is($connection->response->{status}, 200, 'the drops make a request');
    $connection->close;
});
is_charged_without_wait('client that sends its body in drops', '/body', 8, sub {
    my $connection = $t->connect('http');
    $connection->send("POST /body HTTP/1.1\r\nHost: wait.test\r\nContent-Length: 90\r\n\r\n");
    $connection->send_slowly('x' x 90, 9, 0.07);
    is($connection->response->{status}, 200, 'the body arrives');
    $connection->close;
});
is_charged_without_wait('client that reads slowly', '/large.txt', 2, sub {
    my $connection = $t->connect('small', window => 8192);
    $connection->request('/large.txt', host => 'wait.test');
    sleep 0.6;
    is(length $connection->response->{body}, 3_000_000, 'the file arrives');
    $connection->close;
});

# The wait between two requests of a connection is nobody's.
$t->clear_log;
my $connection = $t->connect('http');
$connection->get('/a.txt', host => 'wait.test') for 1 .. 3;
sleep 0.7;
$connection->get('/a.txt', host => 'wait.test');
$connection->close;
my @lines = $t->logged(4);
cmp_ok($lines[3]{ns}, '<', 0.7e9 / 10, 'a pause on a kept-alive connection is not charged to the next request');

# 'other' is small: everything that was woken has an owner.
my ($worker) = @{ $t->status->{workers} };
cmp_ok($worker->{charged_ns}, '>', 10 * $worker->{other_ns}, 'what no request claims is a small part');

$t->done;
