# Tests the test library itself, on NGINX without the module.

use strict;
use warnings;

use FindBin;
use IO::Socket::UNIX;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Test::RequestCpu::Upstream;

my $t = Test::RequestCpu->new(module => 0);
$t->html('a.txt', "plain\n");
$t->html('big.txt', words(300_000));

my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    return $connection->answer("upstream saw $request->{method} $request->{uri} $request->{body}");
});

$t->start(main => 'worker_processes 2;', http => <<"EOC");
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location /burn { @{[ burn_rules(2) ]} return 200 "burnt\\n"; }
        location /gzip/ { alias {{dir}}/html/; gzip on; gzip_types *; gzip_min_length 1; }
        location /upstream { proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
    server {
        listen 127.0.0.1:{{port:h2}}{{http2}};
        {{http2_on}}
        location / { }
    }
EOC

is(scalar $t->workers, 2, 'workers are found');

my $answer = $t->get('/a.txt');
is($answer->{status}, 200, 'a request is answered');
is($answer->{body}, "plain\n", 'its body is read');
is($t->get('/none')->{status}, 404, 'a status is read');

my $chunked = $t->get('/gzip/big.txt', headers => { 'Accept-Encoding' => 'gzip' });
like($chunked->{headers}{'transfer-encoding'}, qr/chunked/, 'a chunked answer is seen');
ok($chunked->{complete} && length $chunked->{body} > 1000, 'and read to its end');

my $connection = $t->connect('http');
is($connection->get('/a.txt')->{body}, "plain\n", 'a first request on a connection');
is($connection->get('/upstream/x', method => 'POST', body => 'abc')->{body}, 'upstream saw POST /upstream/x abc',
    'a second, proxied');
$connection->close;

my @lines = $t->logged(5);
is_deeply([ map { $_->{status} } @lines ], [ 200, 404, 200, 200, 200 ], 'the access log is read');

my $idle = $t->measured(sub { });
my $busy = $t->measured(sub { $t->get('/burn?x=' . burn_text(20)) });
cmp_ok($busy, '>', 5_000_000, 'CPU of a worker is seen');
cmp_ok($idle, '<', $busy / 10, 'and its absence');

my ($rounds, @figures) = (0, [ 9, 5, 7, 4 ], [ 6, 8, 8, 8 ]);
is_deeply([ least(sub { $rounds++; $_[0] < $_[1] }, map { my $figures = $_; sub { shift @$figures } } @figures) ],
    [ 5, 6 ],
    'of several kinds of work the least figures are compared');
is("$rounds @{ $figures[0] }", '1 4', 'three rounds, until the condition holds');
ok(!IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "\0request-cpu-port-" . $t->port('http')),
    'a port that is in use is claimed');

$t->clear_log;
$t->get('/a.txt');
is(scalar($t->logged(1)), 1, 'an access log that was emptied is read again from its start');

if ($t->has('http_v2')) {
    my $client = Test::RequestCpu::HTTP2->new($t->connect('h2'));
    $client->send($client->preface, $client->request('/a.txt', number => \my $one),
        $client->request('/none', number => \my $two));
    ok($client->finish, 'HTTP/2 streams end');
    is($client->stream($one)->{body}, "plain\n", 'an HTTP/2 body is read');
    is($client->stream($two)->{status}, 404, 'an HTTP/2 status is read');
}

my ($status, $output) = run_command($^X, '-e', 'print "out"; print STDERR "err"; exit 3');
is($status, 3, 'status of a command');
is(join('', sort split //, $output), join('', sort split //, 'outerr'), 'output of a command');

is(detached(sub { [ 1, { a => 2 } ] })->result->[1]{a}, 2, 'a result of a background function');

is(scalar(totals_faults_of(charged_ns => 5)), 1, 'worker totals that do not add up are found');
is(scalar(totals_faults_of(charged_ns => 4)), 0, 'worker totals that add up are accepted');

sub totals_faults_of {
    my %change = @_;
    return my @faults = Test::RequestCpu::totals_faults([
        { worker => 0, thread_cpu_ns => 10, charged_ns => 0, no_request_ns => 3, loop_ns => 2, other_ns => 1, %change },
    ]);
}

is_deeply(
    Test::RequestCpu::parse_prometheus("# HELP a b\n# TYPE a counter\na{k=\"x\\\"\\\\\\n\",z=\"\"} 1.5\nb 2\n"),
    [ [ 'a', { k => "x\"\\\n", z => '' }, '1.5' ], [ 'b', {}, 2 ] ],
    'Prometheus text is parsed',
);

($status, $output) = do {
    my $other = Test::RequestCpu->new(module => 0);
    $other->try_config(http => 'no_such_directive;');
};
isnt($status, 0, 'a configuration with a mistake is refused');
like($output, qr/\[emerg\].*no_such_directive/, 'and the message is read');

$t->reload;
is(scalar $t->workers, 2, 'a reload is waited for');
my $pid = $t->master;
is($t->stop, 0, 'NGINX ends');
ok(!kill(0, $pid), 'and is gone');

my @left = $t->log_faults;
is_deeply(\@left, [], 'a clean error log has no faults');
$t->write_file($t->dir . '/error.log', "2026/01/31 12:00:00 [alert] 1#1: boom\n");
is(scalar(@left = $t->log_faults), 1, 'an alert is a fault');
$t->expect_log(qr/boom/);
is(scalar(@left = $t->log_faults), 0, 'unless it is expected');

done_testing();
