# CPU that is charged to requests is in an account or in uncounted_ns.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;

my $t = Test::RequestCpu->new->need('http_ssl', 'http_v2', 'gzip');
plan(skip_all => 'curl is needed') if system 'curl --version >/dev/null 2>&1';
$t->certificate('tls', 'tls');
$t->html('a.txt', "plain\n");
$t->html('text.txt', words(100_000));
$t->html('large.txt', 'x' x 8_000_000);

# Every counted location uses the zone "all". Its key is empty if the request has a certain argument
my $locations = <<'EOC';
        client_max_body_size 10m;
        location / { gzip on; gzip_types *; gzip_min_length 100; }
        location /off/ { request_cpu off; alias {{dir}}/html/; }
        location /both/ { request_cpu zone=all zone=extra; alias {{dir}}/html/; }
        location = /return { return 200 "returned\n"; }
        location = /moved { request_cpu off; return 301 /; }
        location = /proxy { proxy_pass http://127.0.0.1:{{port:sink}}/; }
        location = /off/proxy { request_cpu off; proxy_pass http://127.0.0.1:{{port:sink}}/; }
EOC
my %config = (main => 'worker_processes 2;', http => <<"EOC");
    map \$arg_nobody \$all { "" \$host; default ""; }
    request_cpu_zone \$all zone=all:1m;
    request_cpu_zone \$arg_extra zone=extra:1m;
    request_cpu zone=all;
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
        listen 127.0.0.1:{{port:tls}} ssl{{http2}};
        {{http2_on}}
        ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key;
        $locations
    }
    server {
        listen 127.0.0.1:{{port:sink}};
        client_max_body_size 10m;
        location / { return 200 "sunk\\n"; }
    }
EOC
$t->start(%config);
$t->expect_log(qr/client sent invalid|SSL_do_handshake\(\) failed|ssl/);

# One worker does all work; the other one answers status requests, because a worker is charged for its own answers
my ($busy, $reader) = $t->workers;
sub only {
    my ($going, $stopped) = @_;
    kill STOP => $stopped or die "no worker $stopped\n";
    # a worker that is about to stop can still accept a connection
    wait_until(10, sub { $t->slurp("/proc/$stopped/stat") =~ /^\d+ \(.*\) T/s })
        or die "worker $stopped does not stop\n";
    kill CONT => $going or die "no worker $going\n";
}
only($busy, $reader);
END { kill CONT => grep { defined } $busy, $reader if defined $reader }

# The totals of the busy worker, and the CPU of the accounts
sub books {
    $t->quiet($busy);
    only($reader, $busy);
    my $status = $t->status;
    only($busy, $reader);
    my ($books) = grep { $_->{pid} == $busy } @{ $status->{workers} };
    return ($books, sum(map { $_->{cpu_ns} } values %{ $status->{zones}{all}{keys} }));
}

my ($before_ns, $accounts_before_ns) = (0, 0);
# Runs a function, and checks that all of its CPU is counted. Returns the increase of the accounts and of
# uncounted_ns.
sub adds_up {
    my ($name, $code) = @_;
    $code->();
    my ($books, $accounts_ns);
    # the server may notice the end of a connection a moment later
    wait_until(10, sub {
        ($books, $accounts_ns) = books();
        return $accounts_ns + $books->{uncounted_ns} == $books->{charged_ns} + $books->{pool_threads_charged_ns};
    });
    is($accounts_ns + $books->{uncounted_ns}, $books->{charged_ns} + $books->{pool_threads_charged_ns},
        "$name: accounts and uncounted CPU are what was charged");
    is($books->{thread_cpu_ns}, sum(map { $books->{"${_}_ns"} } qw(charged no_request loop other)),
        "$name: the books are exact");
    cmp_ok($books->{uncounted_ns}, '>=', $before_ns, "$name: uncounted CPU does not fall");
    my @more = ($accounts_ns - $accounts_before_ns, $books->{uncounted_ns} - $before_ns);
    ($before_ns, $accounts_before_ns) = ($books->{uncounted_ns}, $accounts_ns);
    return @more;
}

sub requests { my (@uris) = @_; return sub { $t->get($_, host => 'a.test') for @uris } }

adds_up('a start', sub { });
my ($counted, $uncounted) = adds_up('counted', requests(('/a.txt', '/return', '/proxy', '/both/a.txt?extra=x') x 5));
cmp_ok($counted, '>', 0, 'requests are in accounts');
is($uncounted, 0, 'and none of them is uncounted');
($counted, $uncounted) = adds_up('off', requests(('/off/a.txt', '/moved') x 10));
is($counted, 0, 'requests of locations with "off" are in no account');
cmp_ok($uncounted, '>', 0, 'they are uncounted');
($counted, $uncounted) = adds_up('empty keys',
    requests(('/a.txt?nobody=1', '/return?nobody=1', '/both/a.txt?nobody=1') x 5));
is($counted, 0, 'requests without a key are in no account');
cmp_ok($uncounted, '>', 0, 'they are uncounted');

adds_up('a connection for all', sub {
    my $connection = $t->connect('http');
    for my $uri (('/a.txt', '/off/a.txt', '/a.txt?nobody=1', '/proxy', '/off/proxy', '/text.txt') x 5) {
        $connection->get($uri, host => 'b.test')->{status} == 200 or die "no answer\n";
    }
    $connection->close;
});
for my $last ('/a.txt', '/off/a.txt') {
    adds_up("the end of a connection after $last", sub {
        my $connection = $t->connect('http');
        $connection->get($last, host => 'b.test');
        $connection->send("GET / HTTP/1.1\r\nHost: b.te");
        $connection->close;
    });
}
adds_up('bad requests', sub {
    for my $text ("GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01 no request\r\n\r\n",
        "GET /off/a.txt HTTP/1.1\r\nHost: a b\r\n\r\n", "GET /") {
        my $connection = $t->connect('http');
        $connection->send($text);
        $connection->response if $text =~ /\n/;
        $connection->close;
    }
});
adds_up('clients that leave', sub {
    for my $uri ('/large.txt', '/off/large.txt', '/large.txt?nobody=1') {
        my $connection = $t->connect('http', window => 4096);
        $connection->request($uri, host => 'c.test');
        $connection->fill(5);
        $connection->reset;
    }
});
adds_up('uploads', sub {
    for my $uri ('/proxy', '/off/proxy', '/return', '/moved') {
        $t->get($uri, method => 'POST', host => 'd.test', body => 'x' x 2_000_000);
    }
});
for my $version ('--http1.1', '--http2') {
    adds_up("TLS, $version", sub {
        my $port = $t->port('tls');
        my $url = sub { ('-o', '/dev/null', "https://e.test:$port$_[0]") };
        run_command('curl', '-sk', $version, '--resolve', "e.test:$port:127.0.0.1", map { $url->($_) } @$_)
            for [ '/a.txt', '/off/a.txt' ], [ '/off/a.txt' ], [ '/a.txt?nobody=1', '/text.txt' ];
    });
}
adds_up('HTTP/2', sub {
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    my @uris = map { ("/a.txt?$_", "/off/a.txt?$_", "/text.txt?nobody=$_", "/moved?$_") } 1 .. 10;
    $client->send($client->preface, map { $client->request($_, host => 'f.test') } @uris);
    $client->finish or die "not all streams are answered\n";
    $client->send(($client->ping) x 100);
    $client->{connection}->close;
});
adds_up('a handshake that fails', sub {
    my $connection = $t->connect('tls');
    $connection->send('no handshake');
    $connection->close;
});

# In Prometheus' format, the sums of a worker continue after a reload
my ($samples) = do {
    $t->quiet($busy);
    only($reader, $busy);
    my @all = $t->prometheus;
    kill CONT => $busy;
    @all;
};
my $seconds = sub {
    my ($samples) = @_;
    return sum(map { $_->[2] } grep { $_->[0] eq 'nginx_request_cpu_worker_uncounted_seconds_total' } @$samples);
};
is(scalar(grep { $_->[0] eq 'nginx_request_cpu_worker_uncounted_seconds_total' } @$samples), 2,
    'each worker has a sample');
cmp_ok($seconds->($samples), '>=', $before_ns / 1e9, 'with the uncounted CPU');
undef $reader;
$t->reload;
my ($later) = $t->prometheus;
cmp_ok($seconds->($later), '>=', $seconds->($samples), 'which a reload does not forget');

$t->done;
