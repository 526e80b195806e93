# NGINX behaves the same with the module: I/O before timers, timeouts, limits of keep-alive connections, rates,
# lingering. Everything is also done with the same NGINX without the module, and the results must be equal.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $timeout = 1;
my $large = 40_000_000;
my %expected = (
    # while the worker was busy for longer than each timeout
    'a busy worker' => 'for longer',
    'a header' => 200, 'a body' => 200, 'an answer of an upstream' => 200, 'a request on a kept connection' => 200,
    'a request behind a download in pieces' => "200 $large, 200 6",
    # when nothing comes
    'half a header' => 'closed, 408', 'half a body' => 'closed', 'no answer of an upstream' => '504',
    'an idle connection' => 'closed',
    'no name server' => '502', 'a reader that stopped' => 'cut',
    # limits
    'keepalive_requests' => 'keep-alive keep-alive close', 'rates' => 'fast slow',
    'a body that is refused' => '413, closed',
    'twenty connections at once' => 20,
);

sub server {
    my ($module, $mutex) = @_;
    my $t = Test::RequestCpu->new(module => $module);
    $t->html('a.txt', "plain\n");
    $t->html('large.txt', '');
    truncate $t->dir . '/html/large.txt', $large;
    $t->html('rate.txt', 'x' x 48_000);
    Test::RequestCpu::Upstream->start($t, 'upstream', sub { sleep 0.15; return $_[0]->answer("in time\n") });
    $t->{silent} = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port('silent'), Listen => 5,
        ReuseAddr => 1) or die "listen: $@\n";
    $t->{dns} = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port('dns'), Proto => 'udp')
        or die "udp: $@\n";
    my $cpu = $module ? "request_cpu_zone \$host zone=hosts:1m;\nrequest_cpu zone=hosts;" : '';
    my $ms = $timeout * 1000;
    # with one worker, NGINX does not use the mutex
    my $workers = $mutex eq 'on' ? 2 : 1;
    return $t->start(main => "worker_processes $workers;", events => "accept_mutex $mutex; multi_accept on;",
        http => <<"EOC");
    $cpu
    server {
        listen 127.0.0.1:{{port:http}};
        client_header_timeout ${ms}ms;
        client_body_timeout ${ms}ms;
        send_timeout ${ms}ms;
        keepalive_timeout ${ms}ms;
        proxy_read_timeout ${ms}ms;
        resolver 127.0.0.1:{{port:dns}} ipv6=off;
        resolver_timeout ${ms}ms;
        client_max_body_size 1m;
        location / { }
        location = /large.txt { sendfile on; sendfile_max_chunk 4k; }
        location = /fast { alias {{dir}}/html/rate.txt; limit_rate 48k; }
        location = /slow { alias {{dir}}/html/rate.txt; limit_rate 16k; }
        location = /upstream { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /body { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_read_timeout 10s; }
        location = /silent { proxy_pass http://127.0.0.1:{{port:silent}}; }
        location = /name { proxy_pass http://name.test:\$server_port; }
        location = /burn { @{[ burn_rules(48) ]} return 200 "burnt"; }
    }
    server {
        listen 127.0.0.1:{{port:few}};
        keepalive_requests 3;
        lingering_timeout 1s;
        client_max_body_size 1k;
        location / { }
    }
EOC
}

# Data that arrives while the worker is busy, together with timers that expire meanwhile.
sub busy {
    my ($t, $count) = @_;
    my $letters = $$count;
    my %c = map { $_ => $t->connect('http') } qw(header body upstream kept download burner);
    my @head = ("GET /a.txt HTTP/1.1\r\nHost: busy.test\r\n", "\r\n");
    $c{kept}->get('/a.txt');
    $c{download}->request('/large.txt');
    # NGINX had to wait for the reader once, and asks for a write event since then. Now it continues in the next turn
    # of its loop, for which the connection is queued
    sleep 0.1;
    $c{download}->fill while length $c{download}{buffer} < 8_000_000;
    $c{header}->send($head[0]);
    $c{body}->send("POST /body HTTP/1.1\r\nHost: busy.test\r\nContent-Length: 10\r\n\r\n12345");
    $c{upstream}->request('/upstream');
    my $began = time;
    $c{burner}->request('/burn?x=' . burn_text($letters));
    # read everything that was sent, so that the download waits only for the worker
    1 while $c{download}->fill(0.1);
    $c{header}->send($head[1]);
    $c{body}->send('67890');
    $c{kept}->request('/a.txt');
    $c{download}->request('/a.txt');
    # an incomplete header is answered when the worker is free again
    my $header = $c{header}->response->{status};
    my %seen = (
        'a busy worker' => time - $began > 1.2 * $timeout ? 'for longer' : 'not for long',
        'a header' => $header,
        'a body' => $c{body}->response->{status},
        'an answer of an upstream' => $c{upstream}->response->{status},
        'a request on a kept connection' => $c{kept}->response->{status},
        'a request behind a download in pieces' => join ', ',
        map { my $a = $c{download}->response; $a->{status} . ' ' . length $a->{body} } 1 .. 2,
    );
    $c{burner}->response;
    $_->close for values %c;
    # the machine has become faster
    $$count++ if $seen{'a busy worker'} ne 'for longer' && $letters < 24;
    return \%seen;
}

sub timeouts {
    my ($t) = @_;
    my %c = map { $_ => $t->connect('http') } qw(header body silent idle name);
    my $reader = $t->connect('http', window => 4096);
    $reader->request('/large.txt');
    $c{idle}->get('/a.txt');
    $c{header}->send("GET /a.txt HTTP/1.1\r\nHost: late.test\r\n");
    $c{body}->send("POST /body HTTP/1.1\r\nHost: late.test\r\nContent-Length: 10\r\n\r\n12345");
    $c{silent}->request('/silent');
    $c{name}->request('/name');
    my ($fast, $slow) = map { my $c = $t->connect('http'); $c->request($_, close => 1); $c } '/fast', '/slow';
    my %seen = (
        'half a header' => $c{header}->closed_within(30) ? 'closed' : 'open',
        'half a body' => $c{body}->closed_within(30) ? 'closed' : 'open',
        'no answer of an upstream' => $c{silent}->response->{status},
        'an idle connection' => $c{idle}->closed_within(30) ? 'closed' : 'open',
        'no name server' => $c{name}->response->{status},
    );
    # the slow download has not got its last part when the fast one is complete
    $seen{rates} = length $fast->response->{body} == 48_000 ? 'fast' : 'none';
    $slow->fill(0);
    $seen{rates} .= length $slow->{buffer} < 48_000 && length $slow->response->{body} == 48_000 ? ' slow' : ' none';
    sleep 0.05;
    $seen{'a reader that stopped'} = $reader->response->{complete} ? 'complete' : 'cut';
    my ($line) = $t->logged(1,
        sub { $_[0]{host} eq 'late.test' && $_[0]{method} eq 'GET' || $_[0]{status} == 408 && $_[0]{uri} ne '/body' });
    $seen{'half a header'} .= ", $line->{status}";
    $_->close for values %c, $fast, $slow, $reader;
    return \%seen;
}

sub limits {
    my ($t) = @_;
    my %seen;
    my $kept = $t->connect('few');
    $seen{keepalive_requests} = join ' ', map { $kept->get('/a.txt')->{headers}{connection} } 1 .. 3;
    $seen{keepalive_requests} .= ' open' unless $kept->closed_within(30);
    # the client continues to send after the answer: NGINX reads the data, otherwise the answer would be lost
    my $refused = $t->connect('few');
    $refused->send("POST /a.txt HTTP/1.1\r\nHost: few.test\r\nContent-Length: 100000\r\n\r\n");
    $refused->send_slowly('x' x 100_000, 10, 0.01);
    $seen{'a body that is refused'} = $refused->response->{status}
        . ($refused->closed_within(30) ? ', closed' : ', open');
    my @many = map { $t->connect('http') } 1 .. 20;
    $_->request('/a.txt', close => 1) for @many;
    $seen{'twenty connections at once'} = grep { $_->response->{status} == 200 } @many;
    $_->close for @many, $kept, $refused;
    return \%seen;
}

# On a busy machine, a timeout may expire before a test has sent everything, or before an answer arrives. Then the
# test starts again. A wrong order is wrong each time.
sub tried {
    my ($test, @arguments) = @_;
    my $seen;
    for (1 .. 8) {
        $seen = $test->(@arguments);
        last unless grep { $seen->{$_} ne $expected{$_} } keys %$seen;
    }
    return %$seen;
}

my $letters;
for my $mutex ('off', 'on') {
    my %seen;
    for my $module (0, 1) {
        my $name = "accept_mutex $mutex, " . ($module ? 'with the module' : 'without');
        my $t = server($module, $mutex);
        if ($mutex eq 'off') {
            # longer than every timeout, even if the machine becomes faster: letters are added until it is
            for (15 .. 21) {
                last if $letters;
                my $start = time;
                $t->get('/burn?x=' . burn_text($_));
                $letters = $_ if time - $start > 2 * $timeout || $_ == 21;
            }
            $seen{$module} = { tried(\&busy, $t, \$letters) };
        }
        # with two workers, the test cannot know which one is busy
        $seen{$module} = { %{ $seen{$module} || {} }, tried(\&timeouts, $t), tried(\&limits, $t) };
        is($seen{$module}{$_}, $expected{$_}, "$name: $_") for sort keys %{ $seen{$module} };
        $t->done(more => 1, no_totals => 1);
    }
    is_deeply($seen{1}, $seen{0}, "accept_mutex $mutex: the same with the module as without");
}

done_testing();
