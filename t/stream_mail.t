# Connections that are not HTTP pass the same event loop. The module charges them to no account.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;
use Time::HiRes qw(time);

my $t = Test::RequestCpu->new;
my ($stream, $mail) = ($t->has('stream'), $t->has('mail'));
plan(skip_all => "nginx/@{[ $t->version ]} here has neither stream nor mail") unless $stream || $mail;
$t->html('a.txt', "plain\n");

# A server that echoes lines, and a server that speaks the needed part of POP3
sub serve {
    my ($port, $code) = @_;
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port($port), Listen => 16,
        ReuseAddr => 1) or die "listen: $@\n";
    $t->spawn(sub {
        $SIG{CHLD} = 'IGNORE';
        while (my $socket = $listen->accept) {
            my $pid = fork;
            if (defined $pid && $pid == 0) {
                eval { $code->(bless { socket => $socket, buffer => '', timeout => 30 },
                    'Test::RequestCpu::Connection') };
                POSIX::_exit(0);
            }
            close $socket;
        }
    });
}
serve('echo', sub {
    my ($connection) = @_;
    while (defined(my $line = $connection->read_until(qr/\n/))) { $connection->send("echo $line") }
});
serve('pop3', sub {
    my ($connection) = @_;
    $connection->send("+OK ready\r\n");
    while (defined(my $line = $connection->read_until(qr/\r\n/))) {
        $connection->send($line =~ /^STAT/i ? "+OK 2 320\r\n" : "+OK\r\n");
        last if $line =~ /^QUIT/i;
    }
});

my $stream_conf = $stream ? <<'EOC' : '';
stream {
    server { listen 127.0.0.1:{{port:stream}}; proxy_pass 127.0.0.1:{{port:echo}}; }
    server { listen 127.0.0.1:{{port:timeout}}; proxy_pass 127.0.0.1:{{port:echo}}; proxy_timeout 1s; }
    server { listen 127.0.0.1:{{port:udp}} udp; proxy_pass 127.0.0.1:{{port:udp_echo}}; proxy_responses 1; }
    server { listen 127.0.0.1:{{port:udp_long}} udp; proxy_pass 127.0.0.1:{{port:udp_echo}}; proxy_timeout 2s; }
    server { listen 127.0.0.1:{{port:return}}; return "$remote_addr\n"; }
}
EOC
my $mail_conf = $mail ? <<'EOC' : '';
mail {
    auth_http 127.0.0.1:{{port:http}}/auth;
    server { listen 127.0.0.1:{{port:mail}}; protocol pop3; pop3_auth plain; }
}
EOC
my $udp = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port('udp_echo'), Proto => 'udp')
    or die "udp: $@\n";
$t->spawn(sub { while (defined(my $from = $udp->recv(my $data, 2000))) { $udp->send("echo $data", 0, $from) } });

$t->start(main => join('', map { $t->load($_) } qw(stream mail)), extra => "$stream_conf$mail_conf", http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /auth {
            add_header Auth-Status OK; add_header Auth-Server 127.0.0.1; add_header Auth-Port {{port:pop3}};
            return 204;
        }
    }
EOC

my ($before) = @{ $t->status->{workers} };

SKIP: {
    skip('no stream module', 9) unless $stream;
    my $connection = $t->connect('stream');
    my $fine = 0;
    for my $n (1 .. 300) {
        $connection->send("line $n\n");
        my $line = $connection->read_until(qr/\n/);
        $fine++ if defined $line && $line eq "echo line $n\n";
    }
    is($fine, 300, 'a stream proxy carries lines to and fro');
    my $big = 'x' x 2_000_000 . "\n";
    my $sender = detached(sub { my $c = $t->connect('stream'); my $child = fork;
        if (!$child) { $c->send($big); POSIX::_exit(0) } my $got = $c->read_until(qr/x\n/); length $got });
    is($sender->result, length("echo $big"), 'and large ones');
    is($t->get('/a.txt')->{body}, "plain\n", 'requests are served meanwhile');
    $connection->send("still there\n");
    is($connection->read_until(qr/\n/), "echo still there\n", 'and the stream goes on');
    $connection->close;
    my $return = $t->connect('return');
    is($return->read_until(qr/\n/), "127.0.0.1\n", 'a stream that returns by itself');
    my $idle = $t->connect('timeout');
    my $start = time;
    ok($idle->closed_within(30), 'an idle stream is closed at its timeout');
    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $t->port('udp'), Proto => 'udp',
        Timeout => 5) or die "udp: $@\n";
    my $answer = '';
    wait_until(60, sub {
        $client->send('datagram');
        my $ready = ''; vec($ready, fileno($client), 1) = 1;
        return unless select($ready, undef, undef, 0.5) > 0;
        $client->recv($answer, 2000);
        1;
    });
    is($answer, 'echo datagram', 'datagrams too');
    my $long = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $t->port('udp_long'), Proto => 'udp')
        or die "udp: $@\n";
    my ($loop, $no_request) = map { $t->status->{workers}[0]{$_} } qw(loop_ns no_request_ns);
    my $came = 0;
    for my $n (1 .. 300) {
        $long->send("datagram $n");
        my $ready = ''; vec($ready, fileno($long), 1) = 1;
        $came++ if select($ready, undef, undef, 2) > 0 && defined $long->recv($answer, 2000);
    }
    is($came, 300, 'many of them in one session');
    my $grown = $t->status->{workers}[0]{no_request_ns} - $no_request;
    # a worker that sleeps between them also uses CPU for the loop
    cmp_ok($grown, '>', ($t->status->{workers}[0]{loop_ns} - $loop) / 4,
        'which is a connection without a request, not the event loop');
}

SKIP: {
    skip('no mail module', 4) unless $mail;
    my $connection = $t->connect('mail');
    like($connection->read_until(qr/\n/), qr/^\+OK/, 'a mail proxy greets');
    $connection->send("USER somebody\r\n");
    like($connection->read_until(qr/\n/), qr/^\+OK/, 'takes a name');
    $connection->send("PASS secret\r\n");
    like($connection->read_until(qr/\n/), qr/^\+OK/, 'asks the HTTP server, and logs in');
    $connection->send("STAT\r\n");
    is($connection->read_until(qr/\n/), "+OK 2 320\r\n", 'and is a proxy from then on');
    $connection->close;
}

$t->quiet;
my ($after) = @{ $t->status->{workers} };
my ($charged, $all) = map { $after->{$_} - $before->{$_} } qw(charged_ns thread_cpu_ns);
cmp_ok($charged, '<', $all / 2, 'the CPU of streams and mail is charged to no request');
my ($nobodys, $handlers) = ($after->{other_ns} - $before->{other_ns}, $all - ($after->{loop_ns} - $before->{loop_ns}));
cmp_ok($nobodys, '<', 0.01 * $handlers,
    sprintf 'but to connections without one, upstreams included: %.3f %% has no owner', 100 * $nobodys / $handlers);
is(scalar(grep { !/^(?:localhost|127\.0\.0\.1)/ } keys %{ $t->status->{zones}{hosts}{keys} }), 0, 'and to no account');

$t->done;
