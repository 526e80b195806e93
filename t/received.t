# Received bytes: all bytes from the client of a request count, even if nobody reads them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use IO::Select;
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;
use Test::RequestCpu::HTTP2;
use Test::RequestCpu::TLS;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('http_ssl', 'http_v2', 'auth_basic');
$t->certificate('tls', 'tls');
$t->html('a.txt', "plain\n");
$t->html('large.txt', 'x' x 3_000_000);

# Answers, or continues as a WebSocket does: it sends back what it reads, and one half of it once more
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    return $connection->answer("answer\n") unless $request->{headers}{upgrade};
    $connection->send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    while (1) {
        $connection->fill or return 0 if $connection->{buffer} eq '';
        $connection->send($connection->{buffer}) or return 0;
        $connection->{buffer} = '';
    }
});

my $upgrade = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection Upgrade; proxy_set_header Host $host;';
my $locations = <<"EOC";
        location / { }
        location = /no { return 204; }
        location = /proxy { client_max_body_size 20m; proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /unbuffered { client_max_body_size 20m; proxy_request_buffering off; proxy_http_version 1.1;
            proxy_pass http://127.0.0.1:{{port:sink}}; }
        location = /early { client_max_body_size 20m; proxy_request_buffering off; proxy_http_version 1.1;
            proxy_pass http://127.0.0.1:{{port:early}}; }
        location = /small { client_max_body_size 10; proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /dead { client_max_body_size 20m; proxy_request_buffering off; proxy_http_version 1.1;
            proxy_pass http://127.0.0.1:{{port:nobody}}; }
        location = /auth { auth_basic x; auth_basic_user_file {{dir}}/users; }
        location = /off { request_cpu off; return 200 no; }
        location = /page { error_page 404 /a.txt; root {{dir}}/none; }
        location = /slow { limit_rate 1m; alias {{dir}}/html/large.txt; }
        location = /ws { $upgrade proxy_pass http://127.0.0.1:{{port:upstream}}; }
EOC
$t->write_file($t->dir . '/users', '');
# Answers before it has read the body, and reads the body nevertheless
my $early = Test::RequestCpu::Upstream->start($t, 'early', sub { return 0 });
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    client_max_body_size 20m;
    lingering_timeout 2s;
    server {
        listen 127.0.0.1:{{port:http}};
        $locations
    }
    server {
        listen 127.0.0.1:{{port:h2}}{{http2}};
        {{http2_on}}
        $locations
    }
    server {
        listen 127.0.0.1:{{port:tls}} ssl;
        ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key;
        $locations
    }
    # a client that speaks TLS
    server {
        listen 127.0.0.1:{{port:front}};
        request_cpu off;
        client_max_body_size 20m;
        client_body_buffer_size 1m;
        location / { $upgrade proxy_pass https://127.0.0.1:{{port:tls}}; }
    }
    server {
        listen 127.0.0.1:{{port:sink}};
        request_cpu off;
        location / { proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
EOC
$t->expect_log(qr/client intended to send too large body|No such file|no user|was not found|prematurely closed|ended connection|reset by peer/);

my $number = 0;
sub host { return 'h' . ++$number . '.test' }
sub text { return Test::RequestCpu::Connection->request_text(@_) }
sub received { my ($host, $requests) = @_; return $t->account_with('hosts', $host, $requests)->{received_bytes} }

# Sends texts on one connection, each of which is a request. Checks that the account has as many bytes.
sub exact {
    my ($name, $host, @texts) = @_;
    my $connection = $t->connect('http');
    $connection->send($_) for @texts;
    $connection->response for @texts;
    $connection->close;
    is(received($host, scalar @texts), length join('', @texts), $name);
}

my $body = 'b' x 5_000_000;
sub chunked {
    my ($uri, $host, $size, $count, $trailer) = @_;
    return text($uri, method => 'POST', host => $host, headers => { 'Transfer-Encoding' => 'chunked' })
        . join('', map { sprintf "%x\r\n%s\r\n", $size, 'c' x $size } 1 .. $count) . "0\r\n\r\n";
}
for my $uri ('/a.txt', '/no', '/proxy') {
    my $host = host();
    exact("GET $uri", $host, text($uri, host => $host));
}
for my $uri ('/no', '/a.txt', '/proxy', '/unbuffered', '/auth', '/page', '/small') {
    my $host = host();
    exact("a large body to $uri", $host, text($uri, method => 'POST', host => $host, body => $body));
    $host = host();
    exact("a small body to $uri", $host, text($uri, method => 'POST', host => $host, body => 'b' x 100));
    $host = host();
    exact("a chunked body to $uri", $host, chunked($uri, $host, 50_000, 40));
    $host = host();
    exact("a small chunked body to $uri", $host, chunked($uri, $host, 10, 3));
}
my $host = host();
exact('GET with a body', $host, text('/a.txt', host => $host, body => $body));

# Requests in one packet: each counts its own bytes
my @hosts = map { host() } 1 .. 4;
my @texts = (text('/a.txt', host => $hosts[0]), text('/no', method => 'POST', host => $hosts[1], body => 'b' x 20_000),
    chunked('/proxy', $hosts[2], 1_000, 5), text('/a.txt', host => $hosts[3]));
my $connection = $t->connect('http');
$connection->send(join '', @texts);
$connection->response for @texts;
$connection->close;
is_deeply([ map { received($_, 1) } @hosts ], [ map { length } @texts ],
    'of requests in one packet each has its own bytes');
@hosts = map { host() } 1 .. 3;
@texts = (chunked('/no', $hosts[0], 3_000, 4), chunked('/a.txt', $hosts[1], 10, 3),
    text('/proxy', method => 'POST', host => $hosts[2], body => $body));
$connection = $t->connect('http');
$connection->send(join '', @texts);
$connection->response for @texts;
$connection->close;
is_deeply([ map { received($_, 1) } @hosts ], [ map { length } @texts ], 'where bodies are not wanted too');
$connection = $t->connect('http');
$host = host();
for (1 .. 5) {
    $connection->get('/no', method => 'POST', host => $host, body => 'b' x 1000);
    $connection->get('/a.txt', host => $host);
}
$connection->close;
is(received($host, 10), 5 * (length(text('/no', method => 'POST', host => $host, body => 'b' x 1000))
    + length(text('/a.txt', host => $host))),
    'with and without a body in turn');

# A body that is discarded when the answer is complete
$host = host();
$connection = $t->connect('http');
my $text = text('/small', method => 'POST', host => $host, close => 1, headers => { 'Content-Length' => 4_000_000 });
$connection->send($text);
is($connection->response->{status}, 413, 'an answer comes before the body');
$connection->send('b' x 4_000_000);
$connection->closed_within(30);
$connection->close;
is(received($host, 1), length($text) + 4_000_000, 'bytes that the client sends after that are counted');

# A client leaves in the middle of its body
$host = host();
$connection = $t->connect('http');
$text = text('/no', method => 'POST', host => $host, headers => { 'Content-Length' => 4_000_000 });
$connection->send($text . 'b' x 100_000);
$connection->response;
sleep 0.2;
$connection->close;
is(received($host, 1), length($text) + 100_000, 'of an incomplete body, the received bytes are counted');

# WebSockets
for my $port ('http', 'front') {
    my $name = $port eq 'http' ? 'WebSocket' : 'WebSocket over TLS';
    $host = host();
    $connection = $t->connect($port);
    my $request = text('/ws', host => $host, headers => { Upgrade => 'websocket', Connection => 'Upgrade' });
    # the first frame comes in the packet of the header
    $connection->send($request . 'first');
    is($connection->response->{status}, 101, "$name: upgraded");
    is($connection->read_bytes(5), 'first', "$name: an echo");
    my $account = sub { return $t->account('hosts', $host) };
    my $before = $account->()->{received_bytes};
    my $sent = 5;
    for (1 .. 8) {
        $connection->send('w' x 200_000);
        $connection->read_bytes(200_000);
        $sent += 200_000;
        sleep 0.3;
    }
    cmp_ok($account->()->{received_bytes}, '>=', $before + 400_000, "$name: received bytes grow while it runs");
    ok(wait_until(10, sub { $connection->send('.'); $connection->read_bytes(1); $sent++;
        $account->()->{received_bytes} >= 1_600_000 }), "$name: all are settled in time");
    $connection->close;
    my ($line) = $t->logged(1, sub { $_[0]{host} eq $host });
    my $all = received($host, 1);
    my $header = $port eq 'http' ? length $request : $all - $sent;
    is($all, $header + $sent, "$name: all bytes are counted, and once");
    cmp_ok($header, '<', 400, "$name: besides its header");
    cmp_ok($account->()->{sent_bytes}, '>', $sent, "$name: sent bytes are those of the echo");
}
for my $uri ('/no', '/proxy', '/a.txt') {
    $host = host();
    $t->get($uri, port => 'front', method => 'POST', host => $host, body => 'b' x 50_000);
    my $all = received($host, 1);
    cmp_ok($all, '>=', 50_000, "TLS: a body to $uri is counted");
    cmp_ok($all, '<', 50_500, 'once');
}

# A body that is discarded after the answer, when TLS has already ended (ngx_ssl_shutdown). The bytes are then those
# of TLS. `openssl s_client` sends nothing more after it has noticed the end. So the answers of the server are held
# back while the body is on its way.
sub keep_back {
    my ($port, $bytes) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $!\n";
    my $number = $listener->sockport;
    defined(my $pid = fork) or die "fork: $!\n";
    return ($number, $pid) if $pid;
    alarm 30;
    $SIG{PIPE} = 'IGNORE';
    my $client = $listener->accept or POSIX::_exit(1);
    my $server = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or POSIX::_exit(1);
    my ($sent, $kept, $greeted, $over) = (0, '', 0, 0);
    my $select = IO::Select->new($client, $server);
    while (my @ready = $select->can_read(25)) {
        for my $from (@ready) {
            my $length = sysread $from, my $data, 65_536;
            if (!$length && $from == $client) {
                # the server must read everything before it notices that the client has left
                shutdown $server, 1;
                POSIX::_exit(0);
            }
            # the server has sent everything, and continues to read
            if (!$length) { $select->remove($server); next }
            if ($from == $client) {
                $sent += $length;
                # the second flight of a client is shorter than this, and a record of the data after it is longer: the
                # server cannot answer before the whole record has arrived
                $greeted += $length if $greeted;
                $over = 1 if $greeted > 1500;
                syswrite $server, $data;
            }
            elsif (!$over) { $greeted = 1; syswrite $client, $data }
            else { $kept .= $data }
        }
        syswrite $client, $kept and $kept = '' if $sent >= $bytes && length $kept;
    }
    POSIX::_exit(0);
}
{
    $host = host();
    my ($port, $pid) = keep_back($t->port('tls'), 1_500_000);
    my $client = Test::RequestCpu::TLS->new(port => $port);
    $client->send(text('/dead', method => 'POST', host => $host, headers => { 'Content-Length' => 3_000_000 })
        . 'b' x 2_000_000);
    is($client->response->{status}, 502, 'TLS: an answer comes before the body');
    $client->close;
    waitpid $pid, 0;
    my $all = received($host, 1);
    cmp_ok($all, '>=', 1_000_000, 'TLS: a body that is dropped after the answer is counted');
    cmp_ok($all, '<', 2_200_000, 'once');
}

# HTTP/2: a client may send a body until the window of its stream is used up
sub frames {
    my ($client, $uri, $host, $size, %option) = @_;
    my $last = $option{last} ? 1 : 0;
    my $stream = $client->{next};
    my $head = $client->request($uri, method => $uri eq '/proxy' || $uri eq '/unbuffered' ? 'POST' : 'GET',
        host => $host, body => '');
    $head = substr $head, 0, length($head) - 9;
    my @data;
    for (my $left = $size; $left > 0; $left -= 16_000) {
        my $length = $left < 16_000 ? $left : 16_000;
        push @data, Test::RequestCpu::HTTP2::frame('data', $left <= 16_000 && $last, $stream, 'd' x $length);
    }
    return ($head, @data);
}
for my $case ([ '/slow', 60_000 ], [ '/proxy', 60_000, last => 1 ], [ '/proxy', 100, last => 1 ],
    [ '/unbuffered', 60_000, last => 1 ]) {
    my ($uri, $size, @option) = @$case;
    $host = host();
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    my ($head, @data) = frames($client, $uri, $host, $size, @option);
    $client->send($client->preface, $head);
    $client->send($_) for @data;
    ok($client->finish, "HTTP/2: $uri answers");
    $client->{connection}->close;
    my $expected = length($head) - 9 + $size;
    is(received($host, 1), $expected, "HTTP/2: $size bytes to $uri are counted");
}
# Unread bodies mostly come after the answer
for my $end ('a later request', 'the end of the connection') {
    my ($refused, $other) = (host(), host());
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    my ($head, @data) = frames($client, '/no', $refused, 50_000, last => 1);
    $client->send($client->preface, $head);
    ok($client->finish, 'HTTP/2: an answer comes before the body');
    $client->send($_) for @data;
    if ($end eq 'a later request') {
        $client->send($client->request('/a.txt', host => $other));
        $client->finish;
        cmp_ok(received($other, 1), '<', 200, 'HTTP/2: a later request does not pay for it');
    }
    $client->{connection}->close;
    my $expected = length($head) - 9 + 50_000;
    ok(wait_until(10, sub { received($refused, 1) == $expected }), "HTTP/2: $end adds it to the first one");
}
for my $end ('a later request', 'the end of the connection') {
    my ($counted, $other) = (host(), host());
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    my $small = $client->request('/a.txt', host => $counted);
    $client->send($client->preface, $small);
    $client->finish;
    my ($head, @data) = frames($client, '/off', host(), 50_000, last => 1);
    $client->send($head);
    ok($client->finish, 'HTTP/2: a request with `request_cpu off` is answered before its body comes');
    $client->send($_) for @data;
    if ($end eq 'a later request') {
        $client->send($client->request('/a.txt', host => $other));
        $client->finish;
    }
    $client->{connection}->close;
    # the worker has noticed the end of the connection by the time it has answered this
    $t->status for 1 .. 3;
    is(received($counted, 1), length($small) - 9, "HTTP/2: $end adds the body to no earlier request's account");
}
$host = host();
my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
$client->send($client->preface, map { (frames($client, '/slow', $host, 20_000))[0 .. 2] } 1 .. 3);
$client->finish;
$client->send($client->request('/a.txt', host => $host));
$client->finish;
$client->{connection}->close;
my $all = received($host, 4);
cmp_ok($all, '>=', 60_000, 'HTTP/2: streams that are open at once have all of their bodies');
cmp_ok($all, '<', 61_000, 'and nothing twice');

$t->done;
