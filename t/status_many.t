# Hundreds of clients that read the status of many keys: the CPU that they take in a turn of the event loop does not
# grow with their number.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;
use Test::RequestCpu::HTTP2;
use Time::HiRes qw(sleep time);

my $keys = 20_000;
my $t = Test::RequestCpu->new->need('http_v2');
$t->start(main => 'worker_rlimit_nofile 4096;', events => 'worker_connections 4096;', http => <<"EOC");
    request_cpu_zone \$arg_k zone=many:40m;
    keepalive_requests 1000000;
    access_log off;
    server {
        listen 127.0.0.1:{{port:http}} backlog=2000;
        location / { request_cpu zone=many; return 204; }
        location = /ping { return 204; }
        location = /full { request_cpu_status format=json; }
        location = /short { request_cpu_status format=json; send_timeout 1s; }
        location = /prometheus { request_cpu_status format=prometheus; }
    }
    server {
        listen 127.0.0.1:{{port:h2}}{{http2}};
        {{http2_on}}
        location / { request_cpu_status format=json detail=low; }
    }
EOC

sub text { return Test::RequestCpu::Connection->request_text(@_) }

{
    my ($connection, $batch) = ($t->connect('http'), 500);
    $connection->send(text('/ping'));
    my $length = length $connection->response->{raw};
    for (my $n = 0; $n < $keys; $n += $batch) {
        $connection->send(join '', map { text("/?k=customer-$_.example.com") } $n .. $n + $batch - 1);
        $connection->read_bytes($batch * $length);
    }
}

# Clients that each read on their own connection, and ask again after a complete answer. Returns the number of answers
# of each.
my $round = 0;
sub readers {
    my ($clients) = @_;
    my $done = $t->dir . '/done' . ++$round;
    my $child = detached(sub {
        my (@answers, %number, $select);
        $select = IO::Select->new;
        my $ask = sub {
            my ($n) = @_;
            my $connection = $t->connect('http');
            $connection->request('/full', version => '1.0');
            my $socket = $connection->socket;
            $socket->blocking(0);
            $select->add($socket);
            $number{ fileno $socket } = [ $n, $connection, 0 ];
        };
        $ask->($_) for 0 .. $clients - 1;
        $t->write_file("$done.all", '');
        while (!-e $done) {
            for my $socket ($select->can_read(0.05)) {
                my $read = sysread $socket, my $block, 1 << 18;
                next unless defined $read;
                my $of = $number{ fileno $socket };
                $of->[2] += $read;
                next if $read;
                $answers[ $of->[0] ]++;
                $select->remove($socket);
                delete $number{ fileno $socket };
                $ask->($of->[0]);
            }
        }
        return { answers => [ map { $_ || 0 } @answers[ 0 .. $clients - 1 ] ],
            bytes => [ map { $_->[2] } values %number ] };
    });
    wait_until(60, sub { -e "$done.all" });
    return ($child, $done);
}

# CPU time of the worker for a small request beside so many readers: there is one in each turn of the event loop.
sub cpu_per_ping {
    my ($clients) = @_;
    my ($child, $done) = readers($clients);
    my ($connection, $ping) = ($t->connect('http'), text('/ping'));
    my $ask = sub { $connection->send($ping); $connection->response->{status} == 204 or die "no answer" };
    # all of them are accepted, one in each turn
    my $accepted = time + 15;
    for (1 .. $clients) { $ask->(); last if time > $accepted }
    my ($before, $pings) = ($t->sched_ns($t->worker), 0);
    my $end = time + 4;
    while (time < $end || $pings < 3) { $ask->(); $pings++ }
    my $cpu = $t->sched_ns($t->worker) - $before;
    $t->write_file($done, '');
    my $result = $child->result;
    diag(sprintf '%d clients: %.3f ms of CPU for each of %d small requests', $clients, $cpu / 1e6 / $pings, $pings);
    return ($cpu / $pings, $result);
}

my ($few) = cpu_per_ping(8);
my ($many, $readers) = cpu_per_ping(400);
cmp_ok($many, '<', 3 * $few, '400 clients do not hold their worker for longer than 8 in a turn');
my @stuck = grep { $_ == 0 } @{ $readers->{bytes} };
cmp_ok(scalar @stuck, '<', 40, 'all of them get something');

# One client gets its answer while others wait: none starves, and none is delayed by clients that leave.
my @slow = map { $t->connect('http', window => 4096) } 1 .. 100;
$_->request('/prometheus') for @slow;
my @gone = map { $t->connect('http') } 1 .. 100;
$_->request($_ % 2 ? '/prometheus' : '/full') for @gone;
$gone[$_]->read_until(qr/\r\n\r\n/) for 0 .. 49;
$_->reset for @gone;
my $answer = $t->get('/full');
ok($answer->{complete}, 'an answer among clients that vanish and clients that hardly read is whole');
my $count = () = $answer->{body} =~ /"requests":1,"responses"/g;
is($count, $keys, 'with all keys');
my $head = $t->connect('http');
$head->send(text('/full', method => 'HEAD') . text('/ping'));
is($head->response(method => 'HEAD')->{status}, 200, 'HEAD too');
is($head->response->{status}, 204, 'and the next request');
{
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    my @number = (0) x 20;
    $client->send($client->preface, map { $client->request("/$_", number => \$number[$_]) } 0 .. 19);
    $client->read_frame until $client->stream($number[3])->{length} > 1000;
    $client->send($client->rst_stream($number[$_])) for 0 .. 9;
    for my $n (10 .. 19) { $client->finish($number[$n]) }
    is(scalar(grep { $client->stream($_)->{ended} } @number[ 10 .. 19 ]), 10,
        'streams end though others were reset while they waited');
}

# While answers wait for their turn, the timers of their clients do not expire.
{
    my ($child, $done) = readers(100);
    my $short = $t->get('/short');
    ok($short->{complete}, 'a short send_timeout is for the client only');
    $t->write_file($done, '');
    $child->result;
}
$_->reset for @slow;

# No answer is left: the worker sleeps.
ok(wait_until(60, sub { my $before = $t->sched_ns($t->worker); sleep 0.3;
    return $t->sched_ns($t->worker) - $before < 50e6 }), 'a worker without readers rests');

$t->done(query => 'key=customer-1.example.com');
