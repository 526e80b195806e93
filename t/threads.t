# Files that a thread of a pool sends: its CPU is charged to the request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;

my $t = Test::RequestCpu->new->need('threads');
my $size = 4_000_000;
$t->html('large', 'x' x $size);
$t->html('other', 'y' x $size);
$t->html('small', 'z' x 1000);
my $http2 = $t->has('http_v2');

my $http2_server = <<'EOC';
    server {
        listen 127.0.0.1:{{port:http2}}{{http2}};
        {{http2_on}}
        server_name http2.test;
        location / { sendfile on; }
    }
EOC
$t->start(main => 'thread_pool small threads=2;', http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    aio threads=small;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name sent.test;
        sendfile on;
        location / { }
        location /temp/ {
            proxy_pass http://127.0.0.1:{{port:plain}}/;
            aio_write on; proxy_buffers 4 4k; proxy_buffer_size 4k; proxy_busy_buffers_size 4k;
        }
    }
    server { listen 127.0.0.1:{{port:http}}; server_name light.test; sendfile on; }
    server { listen 127.0.0.1:{{port:http}}; server_name read.test; sendfile off; }
    server { listen 127.0.0.1:{{port:plain}}; server_name plain.test; access_log off; aio off; sendfile on; }
    @{[ $http2 ? $http2_server : '' ]}
EOC

my $worker = $t->worker;

# Runs a function. Returns the CPU of the worker's thread and of the pool by the kernel's count, and the charged part
# of the latter.
sub used {
    my ($code) = @_;
    my $charged = sub { $t->status->{workers}[0]{pool_threads_charged_ns} };
    my ($charged_before, $pool_before) = ($charged->(), $t->pool_ns($worker));
    my $main = $t->measured($code);
    return { main => $main, pool => $t->pool_ns($worker) - $pool_before, charged => $charged->() - $charged_before };
}

my $requests = 12;
my $used = used(sub {
    my @whole = grep { length $_->{body} == $size } map { $t->get('/large', host => 'sent.test') } 1 .. $requests;
    is(scalar @whole, $requests, 'files that the pool sends arrive');
    $t->logged($requests);
});
my $sum = sum(map { $_->{ns} } $t->logged($requests));
within($used->{charged}, $used->{pool}, 0.4, 1.001, 'nearly all CPU of the pool\'s threads is charged');
within($sum, $used->{main} + $used->{charged}, 0.6, 1.001,
    'and is in $request_cpu_ns, together with the worker\'s own thread');
my $account = $t->account_with('domains', 'sent.test', $requests);
cmp_ok($account->{cpu_ns}, '>=', $sum, 'and in the account');

# Two domains at the same time
$t->clear_log;
my @clients = map {
    my ($heavy, $light) = map { $t->connect('http') } 1 .. 2;
    $heavy->request('/large', host => 'sent.test', close => 1);
    $light->request('/small', host => 'light.test', close => 1);
    ($heavy, $light);
} 1 .. 8;
is(scalar(grep { $_->{complete} } map { $_->response } @clients), 16, 'sixteen at the same time');
my @lines = $t->logged(16);
my ($heavy, $light) = map { my $server = $_;
    median(map { $_->{ns} } grep { $_->{server} eq $server } @lines) } qw(sent.test light.test);
SKIP: {
    skip('a debug log makes small requests expensive', 1) if ($ENV{TEST_LOG_LEVEL} || '') eq 'debug';
    cmp_ok($heavy, '>', 3 * $light, 'each pays for its own');
}

# One connection, files one after the other, and parts of one
my $connection = $t->connect('http');
is(join(' ', map { length $connection->get($_, host => 'sent.test')->{body} } qw(/large /small /other /large)),
    "$size 1000 $size $size",
    'several files on one connection');
my $parts = $connection->get('/large', host => 'sent.test', headers => { Range => 'bytes=0-999999,2000000-3999999' });
is(join(' ', $parts->{status}, map { length } $parts->{body} =~ /(x{1000,})/g), '206 1000000 2000000',
    'parts of a file');
$connection->close;

SKIP: {
    skip('no HTTP/2', 3) unless $http2;
    $used = used(sub {
        my $client = Test::RequestCpu::HTTP2->new($t->connect('http2'));
        $client->send($client->preface, map { $client->request("/$_") } qw(large other small large));
        ok($client->finish, 'streams of HTTP/2');
        is(join(' ', map { $client->stream($_)->{length} } 1, 3, 5, 7), "$size $size 1000 $size", 'are whole');
        $client->{connection}->close;
    });
    cmp_ok($used->{charged}, '>', 0, 'and is charged the work of the pool');
}

# Answers that are written to a temporary file, and sent from there
is($t->get('/temp/large', host => 'sent.test')->{body}, 'x' x $size, 'temporary files that the pool writes and sends')
    for 1 .. 3;

# Files that are read into buffers: the module cannot hook the place where these tasks are posted
$used = used(sub { $t->get('/large', host => 'read.test') for 1 .. 5 });
cmp_ok($used->{pool}, '>', 0, 'reading into buffers uses CPU of the pool');
is($used->{charged}, 0, 'which has no owner');

# Clients that leave while a thread sends
for (1 .. 40) {
    my $gone = $t->connect('http', window => 4096);
    $gone->request('/large', host => 'light.test');
    $gone->fill(5) if $_ % 2;
    $gone->reset;
}
my $served = 8 + 40;
$account = $t->account_with('domains', 'light.test', $served);
is("$account->{requests} $account->{in_flight}", "$served 0", 'aborted requests are counted, and not in flight');
is(length $t->get('/large', host => 'sent.test')->{body}, $size, 'and others go on');

my ($books) = @{ $t->status->{workers} };
cmp_ok($books->{pool_threads_charged_ns}, '<=', $books->{pool_threads_cpu_ns}, 'at most the used CPU is charged');

$t->done;
