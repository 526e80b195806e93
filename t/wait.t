# A request that waits is not charged for the time of the wait.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('cpu_time');
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

# The wait must not be part of the charge. Many clients wait at the same time, so that the work of the worker for them
# is some milliseconds, and its other work is small in comparison. Each client sends the first part of its request.
# Then all pause, and send the next part.
sub is_charged_without_wait {
    my ($name, $uri, $wakeups, %does) = @_;
    my $clients = $does{clients} || 30;
    $t->clear_log;
    my $before = $t->account('domains', 'wait.test');
    my ($start, $took, $answered) = (time, 0, 0);
    my ($used, $work) = $t->worked(sub {
        my @clients = map { $does{connect} ? $does{connect}->() : $t->connect('http') } 1 .. $clients;
        my @parts = @{ $does{parts} };
        while (@parts) {
            my $part = shift @parts;
            $_->send($part) for @clients;
            sleep 0.07 if @parts;
        }
        sleep $does{rest} if $does{rest};
        $answered = grep { my $answer = $_->response; $answer->{status} == 200
            && length $answer->{body} == $does{length} } @clients;
        $_->close for @clients;
        $took = time - $start;
        $t->logged($clients);
    });
    my @lines = grep { $_->{uri} eq $uri } $t->log_lines;
    is($answered, $clients, "$name: requests are answered");
    is(scalar(@lines), $clients, "$name: and logged");
    cmp_ok($took, '>', 0.5, "$name: they take their time");
    my $logged = sum(map { $_->{ns} } @lines);
    my $charged = $t->account_with('domains', 'wait.test', $before->{requests} + $clients)->{cpu_ns}
        - $before->{cpu_ns};
    cmp_ok($charged, '<=', $used, "$name: they are charged no more than the thread used");
    within($charged, $work, 0.8, 1.1, "$name: they are charged for what the thread did");
    # after the log line, only connections are closed
    within($logged, $charged, 0.4, 1, "$name: most of it is in the log");
    is(scalar(grep { $_->{wakeups} >= $wakeups } @lines), $clients, "$name: their wakeups are counted");
}

sub request { my ($uri) = @_; return Test::RequestCpu::Connection->request_text($uri, host => 'wait.test') }

# Divides a text into equal parts.
sub drops { my ($text, $count) = @_; my $size = int(length($text) / $count) + 1; return $text =~ /(.{1,$size})/gs }

is_charged_without_wait('limit_rate', '/slow.txt', 2, parts => [ request('/slow.txt') ], length => 60_000);
is_charged_without_wait('slow upstream', '/upstream', 2, parts => [ request('/upstream') ], length => 5);
is_charged_without_wait('upstream that answers in drops', '/drip', 8, parts => [ request('/drip') ], length => 10);
is_charged_without_wait('client that sends its header in drops', '/a.txt?header', 1, length => 6,
    parts => [ drops("GET /a.txt?header HTTP/1.1\r\nHost: wait.test\r\nX-Long: " . ('x' x 200) . "\r\n\r\n", 9) ]);
is_charged_without_wait('client that sends its body in drops', '/body', 8, length => 10,
    parts => [ "POST /body HTTP/1.1\r\nHost: wait.test\r\nContent-Length: 90\r\n\r\n", drops('x' x 90, 9) ]);
is_charged_without_wait('client that reads slowly', '/large.txt', 2, clients => 5, length => 3_000_000, rest => 0.6,
    connect => sub { $t->connect('small', window => 8192) }, parts => [ request('/large.txt') ]);

# The wait between two requests of a connection is charged to no account.
my ($charged, $used) = $t->charged_and_used(4, sub {
    my $connection = $t->connect('http');
    $connection->get('/a.txt', host => 'wait.test') for 1 .. 3;
    sleep 0.7;
    $connection->get('/a.txt', host => 'wait.test');
    $connection->close;
});
cmp_ok($charged, '<=', $used, 'a pause on a kept-alive connection is not charged to the next request');

# 'other' is small: every handler call has an owner.
my ($worker) = @{ $t->status->{workers} };
cmp_ok($worker->{charged_ns}, '>', 10 * $worker->{other_ns}, 'handler calls without an owner are a small part');

$t->done;
