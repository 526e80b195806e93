# HTTP/2: work of a connection with several requests is charged to the request that causes it.
#
# Each scenario names the hosts that cause the work, and hosts that only send small requests on the same connection.
# The former are charged at least 80 % of the work. A small request is charged what it costs alone, within 20 % and 50
# us. TEST_SCENARIO=PATTERN runs only the scenarios whose names match, and the parts of this file that are not
# scenarios.

use strict;
use warnings;

# Each scenario waits a second or two for later charges.
BEGIN { $ENV{TEST_TIME_LIMIT} ||= 900 }

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Test::RequestCpu::Shares;
use Test::RequestCpu::TLS;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('http_v2', 'http_ssl', 'gzip');
plan(skip_all => 'openssl is needed') if system('openssl version >/dev/null 2>&1');
$t->certificate(rsa => 'mux');
$t->html('a.txt', "plain\n");
$t->html('10m', 'y' x 10_000_000);

my ($back, $sink) = Test::RequestCpu::Shares::sink();

# A gRPC server that answers each DATA frame with a small one.
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port('grpc'), Listen => 16,
    ReuseAddr => 1)
    or die "listen: $@\n";
$t->spawn(sub {
    $SIG{CHLD} = 'IGNORE';
    while (1) {
        my $socket = $listen->accept or next;
        my $pid = fork;
        if (defined $pid && $pid == 0) { eval { grpc_server($socket) }; POSIX::_exit(0) }
        close $socket;
    }
});
close $listen;

sub grpc_server {
    my ($socket) = @_;
    my $connection = bless { socket => $socket, buffer => '', timeout => 60 }, 'Test::RequestCpu::Connection';
    my ($frame, $field) = (\&Test::RequestCpu::HTTP2::frame, \&Test::RequestCpu::HTTP2::field);
    $connection->read_bytes(24) or return;
    $connection->send($frame->('settings', 0, 0, pack 'nN', 4, 1 << 30)
        . $frame->('window_update', 0, 0, pack 'N', 1 << 30));
    while (defined(my $head = $connection->read_bytes(9))) {
        my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', $head;
        my $length = ($high << 16) + $low;
        $connection->read_bytes($length) if $length;
        if ($type == 1) {
            $connection->send($frame->('headers', 4, $stream, "\x88" . $field->('content-type', 'application/grpc')));
        } elsif ($type == 0 && $length) {
            $connection->send($frame->('data', 0, $stream, 'answer'));
        } elsif ($type == 4 && !($flags & 1)) {
            $connection->send($frame->('settings', 1, 0, ''));
        }
        $connection->send($frame->('headers', 5, $stream, $field->('grpc-status', '0'))) if $type <= 1 && $flags & 1;
    }
}

my $locations = <<"EOC";
        client_max_body_size 0;
        keepalive_requests 1000000;
        location / { }
        location = /buffered { proxy_pass http://$sink/; }
        location = /direct { proxy_http_version 1.1; proxy_request_buffering off; proxy_pass http://$sink/read; }
        location = /early { proxy_http_version 1.1; proxy_request_buffering off; proxy_pass http://$sink/; }
        location = /discarded { return 200 "not read\\n"; }
        location = /too_large { client_max_body_size 1m; proxy_pass http://$sink/; }
        location = /grpc { grpc_read_timeout 60s; grpc_pass grpc://127.0.0.1:{{port:grpc}}; }
        location = /off { request_cpu off; return 204; }
        location = /limited { request_cpu_limit zone=hosts cores=0.01 burst=10ms; proxy_pass http://$sink/; }
        location = /refused { request_cpu_limit zone=hosts cores=0.001 burst=1ms; try_files /a.txt =404; }
        location = /burn { @{[ burn_rules(6) ]}
            try_files /a.txt =404; }
EOC
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:plain}}{{http2}};
        listen 127.0.0.1:{{port:tls}} ssl{{http2}};
        server_name main.test;
        {{http2_on}}
        ssl_certificate {{dir}}/mux.pem; ssl_certificate_key {{dir}}/mux.key;
$locations
    }
    server {
        # Since 1.25.1 such a server answers a request of HTTP/2 by 421.
        listen 127.0.0.1:{{port:plain}}{{http2}};
        listen 127.0.0.1:{{port:tls}} ssl{{http2}};
        server_name without.test;
        ssl_certificate {{dir}}/mux.pem; ssl_certificate_key {{dir}}/mux.key;
    }
    server {
        listen 127.0.0.1:{{port:http}};
        listen 127.0.0.1:{{port:tls1}} ssl;
        ssl_certificate {{dir}}/mux.pem; ssl_certificate_key {{dir}}/mux.key;
$locations
    }
EOC

my $MB = 1_000_000;
my $shares = Test::RequestCpu::Shares->new($t);
my $ROUNDS = $shares->{rounds};

my ($protocol, $alone);
sub client {
    my (%option) = @_;
    my $connection = $protocol eq 'HTTP/2' ? $t->connect('plain')
        : Test::RequestCpu::TLS->new(port => $t->port('tls'), alpn => 'h2');
    my $client = Test::RequestCpu::HTTP2->new($connection);
    $client->send($client->preface);
    # the first request pays for the handshake
    get($client, 'first.test') unless $option{fresh};
    return $client;
}

sub get {
    my ($client, $host, $uri, %option) = @_;
    $client->send($client->request($uri || '/a.txt', host => $host, number => \my $stream, %option));
    $client->finish($stream) or die "connection is gone\n";
    return $client->stream($stream)->{status};
}

sub begin {
    my ($client, $host, $uri, %option) = @_;
    $client->send($client->request($uri, host => $host, method => 'POST', open => 1, number => \my $stream, %option));
    return $stream;
}

sub upload {
    my ($client, $host, $uri, $bytes) = @_;
    my $stream = begin($client, $host, $uri);
    $client->upload($stream, $bytes, end => 1);
    $client->finish($stream);
    return $stream;
}

sub scenario { return $shares->scenario(@_) }
sub accounted { return $shares->accounted(@_) }
sub refused { return $shares->refused(@_) }
sub bound { return $shares->bound($_[0]) }

$protocol = 'HTTP/2';
ok($shares->indebted('refused.test', sub {
    my $client = client();
    get($client, 'refused.test', $_[0]);
    $client->close;
}), 'a host is refused');

for ('HTTP/2', 'HTTP/2 over TLS') {
    $protocol = $_;
    $shares->{prefix} = "$_: ";

    # What a small request costs alone, in connections like those below
    # Work of another connection lies between them, so that the processor's caches are in the same state as in the
    # scenarios below: a request after such work costs twice as much, on any connection.
    my $gets = 20;
    my $beside = sub {
        my ($host, $uri) = @_;
        return sub {
            my ($client, $other) = (client(), client());
            my $stream = begin($other, 'other.test', '/buffered');
            for (1 .. $gets) { $other->upload($stream, $MB); $t->quiet; get($client, $host, $uri) }
            ($client, $other);
        };
    };
    $shares->alone('alone.test', $gets, $beside->('alone.test', '/a.txt'));
    $alone = $shares->cost_of('alone.test');
    for ([ 'refused.test', '/refused' ], [ 'gone.test', '/gone' ], [ 'without.test', '/a.txt' ]) {
        my ($host, $uri) = @$_;
        $shares->alone_of($host, $gets, $beside->($host, $uri));
    }

    # The same uploads over HTTP/1
    my $size = 30 * $MB;
    my $http1 = sub {
        my ($uri) = @_;
        my $connection = $protocol eq 'HTTP/2' ? $t->connect('http')
            : Test::RequestCpu::TLS->new(port => $t->port('tls1'));
        $connection->send("POST $uri HTTP/1.1\r\nHost: http1.test\r\nContent-Length: $size\r\n\r\n");
        my $piece = 'x' x 256_000;
        for (my $left = $size; $left > 0; $left -= length $piece) { $connection->send(substr $piece, 0, $left) or last }
        $connection->response;
        return $connection;
    };
    for my $uri ('/buffered', '/direct') {
        my ($one, $two);
        for (1 .. $ROUNDS) {
            $one = accounted(sub { $http1->($uri) })->{of}->('http1.test');
            $two = accounted(sub { my $client = client(); upload($client, 'http2.test', $uri, $size); $client });
            # in larger pieces than those of HTTP/1, an upload can cost less
            $one = $two->{work} if $two->{work} < $one;
            last if $two->{of}->('http2.test') >= 0.8 * $one;
        }
        cmp_ok($two->{of}->('http2.test'), '>=', 0.8 * $one,
            "$protocol: an upload to $uri is charged at least 80 % of what it costs, over HTTP/1 too");
        cmp_ok($two->{of}->('http2.test'), '<=', $two->{used}, "$protocol: and at most what the worker has used");
    }

    for my $uri ('/buffered', '/direct') {
        scenario("uploads to $uri, each followed by a small request", owners => { 'up.test' => 1 },
            small => { 'small.test' => 10 }, run => sub {
            my $client = client();
            for (1 .. 10) { upload($client, 'up.test', $uri, 4 * $MB); get($client, 'small.test') }
            $client;
        });
    }
    for my $uri ('/buffered', '/direct', '/grpc') {
        my %more = $uri eq '/grpc' ? (headers => { 'content-type' => 'application/grpc', te => 'trailers' }) : ();
        scenario("small requests beside an upload to $uri", owners => { 'up.test' => 1 },
            small => { 'small.test' => 15 }, run => sub {
            my $client = client();
            my $stream = begin($client, 'up.test', $uri, %more);
            for (1 .. 15) { $client->upload($stream, 2 * $MB); get($client, 'small.test') }
            $client->upload($stream, 1000, end => 1);
            $client->finish($stream);
            $client;
        });
    }

    # While the upload runs
    my $round = 0;
    for my $uri ('/buffered', '/direct', '/discarded') {
        my $client = client();
        my $host = 'runs.test';
        my $stream = begin($client, $host, $uri);
        for my $part (1 .. 2) {
            my $before = $shares->used->{$host} || 0;
            my (undef, $work) = $t->worked(sub { $client->upload($stream, 15 * $MB) || $uri eq '/discarded'
                && $client->send(map { $client->data($stream, 'x' x 16_384) } 1 .. 900); sleep 1.2 });
            my $seen = wait_until(2, sub { ($shares->used->{$host} || 0) - $before >= 0.75 * $work });
            ok($seen, "$protocol: part $part of an upload to $uri is in the account while it runs")
                or diag(sprintf '%d of %d ns', ($shares->used->{$host} || 0) - $before, $work);
        }
        $client->close;
    }

    # A limit includes the upload while it runs.
    {
        my $host = $protocol eq 'HTTP/2' ? 'limited.test' : 'limited-tls.test';
        my $client = client();
        my $stream = begin($client, $host, '/limited');
        my $before = refused($host);
        my $answer;
        $client->upload($stream, 60 * $MB);
        my $seen = wait_until(3, sub { ($answer = $t->get('/limited', host => $host)->{status}) == 429 });
        ok($seen, "$protocol: a limit refuses requests of a key whose upload uses too much, while that runs")
            or diag("answer: $answer");
        sleep 1.5;
        # Requests of the same key on this connection are refused, and the upload is not charged to them.
        my $figures;
        for (1 .. $ROUNDS) {
            my $before = refused($host);
            $figures = accounted(sub {
                for (1 .. 10) { $client->upload($stream, 3 * $MB); get($client, $host, '/limited') }
                return;
            });
            my $after = refused($host);
            $figures->{refused} = $after->{refused} - $before->{refused};
            $figures->{refused_ns} = $after->{refused_cpu_ns} - $before->{refused_cpu_ns};
            last if $figures->{refused_ns} <= 10 * bound($shares->cost_of('refused.test'))
                && $figures->{of}->($host) >= 0.8 * $figures->{work};
        }
        is($figures->{refused}, 10, "$protocol: requests beside it are refused");
        cmp_ok($figures->{refused_ns}, '<=', 10 * bound($shares->cost_of('refused.test')),
            "$protocol: and what they use is all that is refused CPU");
        within($figures->{of}->($host), $figures->{work}, 0.8, 1.1, "$protocol: the account has the upload");
        cmp_ok(refused($host)->{debt_ns}, '>', 0, "$protocol: in debt");
        $client->close;
    }

    # Requests in between take over none of the upload's work.
    my $between = sub {
        my ($name, $between, %more) = @_;
        scenario("$name in between", owners => { 'up.test' => 1 }, run => sub {
            my $client = client();
            my $stream = begin($client, 'up.test', '/buffered');
            for (1 .. 10) { $client->upload($stream, 3 * $MB); $between->($client) }
            $client->upload($stream, 1000, end => 1);
            $client->finish($stream);
            $between->($client);
            $client;
        }, %more);
    };
    $between->('requests that are not counted', sub { get($_[0], 'off.test', '/off') });
    $between->('requests that are refused', sub { get($_[0], 'refused.test', '/refused') },
        small => { 'refused.test' => 11 });
    $between->('requests that are answered by 421', sub { get($_[0], 'without.test') },
        small => { 'without.test' => 11 });
    $between->('requests that are answered by 404', sub { get($_[0], 'gone.test', '/gone') },
        small => { 'gone.test' => 11 });
    $between->('malformed requests', sub {
        $_[0]->send($_[0]->request('/a.txt', host => 'bad.test', number => \my $stream,
            headers => { connection => 'close', 'Content-Length' => 'x' }));
        $_[0]->finish($stream);
    });

    # Several at once
    scenario('two uploads of different size', owners => { 'four.test' => 4, 'one.test' => 1 }, run => sub {
        my $client = client();
        my ($four, $one) = map { begin($client, $_, '/buffered') } 'four.test', 'one.test';
        for (1 .. 30) { $client->upload($four, 1.2 * $MB); $client->upload($one, 0.3 * $MB) }
        $client->upload($_, 1000, end => 1) for $four, $one;
        $client->finish($four, $one);
        $client;
    });
    scenario('six downloads and small requests', owners => { 'down.test' => 1 }, small => { 'small.test' => 20 },
        run => sub {
        my $client = client();
        my @streams = map { $client->send($client->request("/10m?$_", host => 'down.test', number => \my $stream));
            $stream } 1 .. 6;
        for (1 .. 20) {
            for (1 .. 50) { $client->read_frame if grep { !$client->stream($_)->{ended} } @streams }
            get($client, 'small.test');
        }
        $client->finish(@streams);
        $client;
    });

    # A stream that ends before its body
    scenario('uploads that the client resets', owners => { 'reset.test' => 1 }, small => { 'small.test' => 8 },
        run => sub {
        my $client = client();
        for (1 .. 8) {
            my $stream = begin($client, 'reset.test', '/buffered');
            $client->upload($stream, 4 * $MB);
            $client->send($client->rst_stream($stream));
            get($client, 'small.test');
        }
        $client;
    });
    for my $uri ('/early', '/too_large') {
        # Frames of a stream that has ended: the server reads and ignores 8 MB of them, and reports a flood if there
        # are more (ngx_http_v2_state_head).
        scenario("bodies that go on after the answer of $uri", owners => { 'over.test' => 1 },
            small => { 'small.test' => 6 }, run => sub {
            return map {
                my $client = client();
                my $stream = begin($client, 'over.test', $uri);
                $client->upload($stream, 2 * $MB);
                $client->finish($stream);
                $client->send(map { $client->data($stream, 'x' x 16_384) } 1 .. 60) for 1 .. 6;
                get($client, 'over.test', '/a.txt');
                get($client, 'small.test');
                $client;
            } 1 .. 6;
        });
    }
    scenario('a connection that the client closes in the middle of an upload', owners => { 'closed.test' => 1 },
        small => { 'small.test' => 4 }, run => sub {
        for (1 .. 4) {
            my $client = client();
            get($client, 'small.test');
            my $stream = begin($client, 'closed.test', '/buffered');
            $client->upload($stream, 8 * $MB);
            $t->quiet;
            $client->close;
        }
        return;
    });

    # Frames that belong to no stream
    my %frames = (
        PING => sub { my ($client) = @_; $client->{pongs} = 0;
            for (1 .. 20) { $client->send(map { $client->ping } 1 .. 1000); 1 while $client->{pongs} < 1000 * $_
                && $client->read_frame } },
        SETTINGS => sub { my ($client) = @_; $client->{settings_acks} = 0;
            for (1 .. 10) { $client->send(map { $client->settings } 1 .. 1000);
                1 while $client->{settings_acks} < 1000 * $_ && $client->read_frame } },
        unknown => sub { my ($client) = @_;
            for (1 .. 40) { $client->send(map { $client->unknown } 1 .. 1000) } $client->send($client->ping);
                $client->{pongs} = 0; 1 while !$client->{pongs} && $client->read_frame },
    );
    for my $frame (sort keys %frames) {
        scenario("$frame frames after the last stream, on an open connection", owners => { 'last.test' => 1 },
            small => { 'small.test' => 1 }, run => sub {
            my $client = client();
            get($client, 'small.test');
            get($client, 'last.test');
            $frames{$frame}->($client);
            $client;
        });
    }
    scenario('PING frames after a request that is not counted and one that is refused', owners => { 'last.test' => 1 },
        small => { 'refused.test' => 1 }, run => sub {
        my $client = client();
        get($client, 'last.test');
        get($client, 'refused.test', '/refused');
        get($client, 'off.test', '/off');
        $frames{PING}->($client);
        $client;
    });
    scenario('PING frames beside an open stream', owners => { 'open.test' => 1 }, small => { 'small.test' => 1 },
        run => sub {
        my $client = client();
        my $stream = begin($client, 'open.test', '/direct');
        get($client, 'small.test');
        $frames{PING}->($client);
        $client;
    });

    scenario('PING frames beside the first stream of a connection, before a small request',
        owners => { 'open.test' => 1 }, small => { 'small.test' => 3 }, run => sub {
        return map {
            my $client = client(fresh => 1);
            begin($client, 'open.test', '/direct');
            $frames{PING}->($client);
            get($client, 'small.test');
            $client;
        } 1 .. 3;
    });

    # Header fields of one request in the packet of another: each request is charged for its own.
    {
        my %many = (headers => { map { sprintf('x-%03d', $_) => 'value' } 1 .. 400 });
        my $packets = sub {
            my ($client, $host, @rest) = @_;
            for (1 .. 40) {
                $client->send($client->request('/a.txt', host => $host),
                    map { $client->request('/a.txt', host => $_, %many) } @rest);
                $client->finish;
                $client->{streams} = {};
            }
            return $client;
        };
        my %figure;
        for (1 .. 4 * $ROUNDS) {
            my %new;
            $new{light_alone} = accounted(sub { $packets->(client(), 'light-alone.test') })->{of}->('light-alone.test');
            my $both = accounted(sub { $packets->(client(), 'light.test', 'fields.test') });
            $new{light} = $both->{of}->('light.test');
            $new{both} = $both->{work};
            for (keys %new) { $figure{$_} = $new{$_} if !$figure{$_} || $new{$_} < $figure{$_} }
            last if $_ >= $ROUNDS && $figure{light} <= 1.5 * $figure{light_alone}
                && $figure{light} >= 0.5 * $figure{light_alone};
        }
        cmp_ok($figure{light}, '<=', 40 * bound($figure{light_alone} / 40),
            "$protocol: a request is charged what it costs alone, whatever header follows it in the packet");
        within($figure{light}, $figure{light_alone}, 0.5, 1.6, "$protocol: and not for that header");
    }
}

# The handshake
{
    my $count = 8;
    my $connection = sub {
        my (@requests) = @_;
        return map {
            my $client = Test::RequestCpu::HTTP2->new(Test::RequestCpu::TLS->new(port => $t->port('tls'),
                alpn => 'h2'));
            $client->send($client->preface);
            get($client, @$_) for @requests;
            $client;
        } 1 .. $count;
    };
    my $host = sub { return [ "$_[0].test", $_[1] || '/a.txt' ] };
    my ($shake, $late, $refused, %before);
    for (1 .. $ROUNDS) {
        $shake = accounted(sub { $connection->($host->('shake')) })->{of}->('shake.test');
        $late = accounted(sub { $connection->($host->('off', '/off'), $host->('late'), $host->('small')) });
        %before = %{ refused('refused.test') };
        $refused = accounted(sub { $connection->($host->('refused', '/refused'), $host->('small')) });
        $refused->{after} = refused('refused.test');
        last if $late->{of}->('late.test') >= 0.7 * $shake && $late->{of}->('small.test') <= $count * bound($alone)
            && $refused->{after}{refused_cpu_ns} - $before{refused_cpu_ns} >= 0.7 * $shake
            && $refused->{of}->('small.test') <= $count * bound($alone);
    }
    within($late->{of}->('late.test'), $shake, 0.7, 1.6,
        'a first request that is not counted leaves the handshake to the first one that is');
    cmp_ok($late->{of}->('small.test'), '<=', $count * bound($alone), 'and not to the second one');
    within($refused->{after}{refused_cpu_ns} - $before{refused_cpu_ns}, $shake, 0.7, 1.6,
        'a first request that is refused takes the handshake, as refused CPU');
    cmp_ok($refused->{after}{debt_ns}, '<=', $before{debt_ns}, 'in no debt');
    cmp_ok($refused->{of}->('small.test'), '<=', $count * bound($alone), 'and leaves nothing of it to the next one');
}

$back->done(more => 1);
$t->done;
