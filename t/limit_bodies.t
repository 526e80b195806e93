# Bodies of refused requests: NGINX reads as little as possible of them, and the client still gets its answer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use IPC::Open2 qw(open2);
use JSON::PP ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

$SIG{PIPE} = 'IGNORE';
my ($python) = grep { $_ && system("$_ -c 'import aioquic' >/dev/null 2>&1") == 0 }
    $ENV{TEST_PYTHON}, "$FindBin::Bin/../target/python/bin/python3", 'python3';

for my $method (qw(epoll poll)) {
    my $t = Test::RequestCpu->new->need('rewrite', 'proxy', 'ssi', 'http_ssl');
    my ($status, $output) = $t->try_config(events => "use $method;", http => '');
    if ($output =~ /invalid event type "$method"/) {
        pass("NGINX was built without $method");
        next;
    }
    my %has = map { $_ => $t->has($_) ? 1 : 0 } qw(http_v2 http_v3);
    $t->html($_, "plain\n") for qw(a.txt burn.txt static.txt page/a.txt named/a.txt);
    $t->html('page.txt', "the page\n");
    $t->html('page.shtml', '<<!--#include virtual="/part/1" --> <!--#include virtual="/part/2" -->>');
    $t->certificate(ecdsa => 'tls');
    my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
        my ($connection, $request) = @_;
        return $connection->answer("[$request->{method} " . length($request->{body} // '') . ']');
    });
    my $burn = burn_rules(3);
    my $http2 = $has{http_v2} ? 'listen 127.0.0.1:{{port:h2}}{{http2}}; {{http2_on}}' : '';
    my $http3 = $has{http_v3} ? 'listen 127.0.0.1:{{port:h3}} quic; http3 on;' : '';
    $t->start(events => "use $method;", http => <<"EOC");
    request_cpu_zone \$server_name zone=z:1m;
    request_cpu zone=z;
    request_cpu_limit_log_level info;
    lingering_timeout 2s;
    ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key; ssl_protocols TLSv1.2 TLSv1.3;
    server {
        listen 127.0.0.1:{{port:http}}; listen 127.0.0.1:{{port:tls}} ssl; $http2 $http3
        server_name one.test;
        client_max_body_size 0;
        request_cpu_limit zone=z cores=0.001 burst=0;
        location / { $burn }
        location /static { error_page 429 /page.txt; }
        location = /page.txt { request_cpu_limit off; }
        location /named { error_page 429 \@page; }
        location \@page { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_request_buffering off; }
        location /uri { error_page 429 =429 /proxied; }
        location /proxied { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_method POST; }
        location /ssi { error_page 429 =429 /page.shtml; }
        location = /page.shtml { request_cpu_limit off; ssi on; ssi_types *; }
        location /part { internal; proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location /free { request_cpu_limit off; root html; try_files /a.txt =404; }
    }
EOC
    my $x = burn_text();
    is($t->get("/burn.txt?x=$x", host => 'one.test')->{status}, 200, "$method: a dear request");
    $t->quiet;

    # Writes for some seconds, or until the server takes no more for a second. Returns the number of bytes taken, and
    # the answer.
    my $pour = sub {
        my ($in, $out, $head, $piece) = @_;
        my ($sent, $answer, $ended, $end, $last) = (0, '', 0, time + 4, time);
        my ($read, $write) = (IO::Select->new($out), IO::Select->new($in));
        $in->blocking(0);
        my $left = $head;
        while (time < $end && time - $last < 1) {
            # the client continues to send after the end of the answer
            $ended = !sysread $out, $answer, 65536, length $answer if !$ended && $read->can_read(0);
            next unless $write->can_write(0.05);
            $left = $piece if $left eq '';
            my $wrote = syswrite $in, $left;
            if (!defined $wrote) { next if $!{EAGAIN}; last }
            $last = time if $wrote;
            $sent += $wrote;
            substr $left, 0, $wrote, '';
        }
        while (!$ended && $read->can_read(0.2)) { sysread($out, $answer, 65536, length $answer) or last }
        return ($sent, $answer);
    };
    my $head = sub { my ($uri, $more) = @_; return "POST $uri HTTP/1.1\r\nHost: one.test\r\n$more\r\n\r\n" };
    my $mb = 1 << 20;
    my @kinds = ([ 'Content-Length', 'Content-Length: 100000000000', 'x' x $mb ],
        [ 'chunked', 'Transfer-Encoding: chunked', sprintf("%x\r\n", $mb) . 'x' x $mb . "\r\n" ]);
    # the kernel buffers a few megabytes for both ends
    my $most = 40 * $mb;
    for my $kind (@kinds) {
        my ($name, $field, $piece) = @$kind;
        for my $uri (qw(/a.txt /static /named /uri /ssi)) {
            my $c = $t->connect('http');
            my ($sent, $answer) = $pour->($c->socket, $c->socket, $head->($uri, $field), $piece);
            $c->close;
            like($answer, qr{^HTTP/1.1 429 }, "$method, $name, $uri: is answered");
            like($answer, qr{\r\nConnection: close\r\n}i, "$method, $name, $uri: on a connection that ends")
                if $uri eq '/a.txt';
            like($answer, qr{the page}, "$method, $name, $uri: by its page") if $uri eq '/static';
            like($answer, qr{\[POST 0\]|\[GET 0\]},
                "$method, $name, $uri: by its page, from another server that gets no body") if $uri =~ /named|uri/;
            like($answer, qr{\[GET 0\].*\[GET 0\]}s, "$method, $name, $uri: by a page of subrequests")
                if $uri eq '/ssi';
            cmp_ok($sent, '<', $most, "$method, $name, $uri: does not read an endless body");
        }
        my ($out, $in);
        my $pid = open2($out, $in, 'openssl', 's_client', '-connect', '127.0.0.1:' . $t->port('tls'), '-quiet',
            '-no_ign_eof', '-nocommands');
        my ($sent, $answer) = $pour->($in, $out, $head->('/a.txt', $field), $piece);
        kill KILL => $pid;
        waitpid $pid, 0;
        like($answer, qr{HTTP/1.1 429 }, "$method, $name, TLS: is answered");
        cmp_ok($sent, '<', $most, "$method, $name, TLS: does not read an endless body");
    }

    # Ordinary bodies
    my $c = $t->connect('http');
    for my $bytes (2, 5_000, 60_000, 65_536) {
        is($c->get('/a.txt', host => 'one.test', method => 'POST', body => 'x' x $bytes)->{status}, 429,
            "$method: a POST of $bytes bytes is refused");
    }
    is($c->get('/free', host => 'one.test')->{status}, 200, "$method: its connection goes on");
    $c->close;
    $c = $t->connect('http');
    is($c->get('/named', host => 'one.test', method => 'POST', body => 'x' x 5_000)->{body}, '[POST 5000]',
        "$method: a small body goes where error_page leads");
    $c->close;
    my $count = $method eq 'epoll' ? 20 : 3;
    my $answered = 0;
    for (1 .. $count) {
        $c = $t->connect('http');
        my $answer = $c->get('/a.txt', host => 'one.test', method => 'POST', body => 'x' x 300_000);
        $answered++ if $answer->{status} == 429 && $answer->{complete};
        $c->close;
    }
    is($answered, $count, "$method: a client that sends 300 kB at once gets its answer") if $method eq 'epoll';
    $c = $t->connect('http');
    $c->send("POST /a.txt HTTP/1.1\r\nHost: one.test\r\nContent-Length: 10000000\r\nExpect: 100-continue\r\n\r\n");
    like($c->read_all(10), qr{^HTTP/1.1 429 }, "$method: a client that asks before it sends is told so");
    $c->close;

    SKIP: {
        skip 'no HTTP/2', 4 unless $has{http_v2};
        for my $uri (qw(/a.txt /static /named /uri)) {
            my $client = Test::RequestCpu::HTTP2->new($t->connect('h2', timeout => 10));
            my $request = $client->request($uri, host => 'one.test', method => 'POST', number => \my $number,
                body => '');
            # without the frame that ends the stream
            $request = substr $request, 0, length($request) - 9;
            my $data = join '', map { Test::RequestCpu::HTTP2::frame('data', 0, $number, 'x' x 16_000) } 1 .. 4;
            $client->send($client->preface, $request, $data);
            $client->finish;
            is($client->stream($number)->{ended}, 1, "$method, HTTP/2, $uri: is answered before its body ends");
        }
    }
    SKIP: {
        skip 'no HTTP/3', 1 unless $has{http_v3} && $python;
        my ($status, $output) = run_command($python, "$FindBin::Bin/lib/h3_client.py", $t->port('h3'), 1,
            (map { ('one.test', "POST $_") } qw(/a.txt /static /named /uri)), { stdout_only => 1 });
        my $answers = $status == 0 ? JSON::PP->new->decode($output) : [];
        is_deeply([ map { $_->{status} } @$answers ], [ (429) x 4 ],
            "$method, HTTP/3: all are answered before their bodies end") or diag($output);
    }
    ok($t->account('z', 'one.test')->{limit}{debt_ns} > 0, "$method: the key was in debt all the time");
    $t->done(more => 1);
}

done_testing();
