# A pool of threads reads and writes files: one event reports the completions of many requests.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('threads', 'gzip');
$t->html('text.txt', words(600_000));
$t->html('large.txt', words(4_000_000));
$t->html("part$_.txt", words(120_000 + $_)) for 1 .. 8;
my $file_aio = $t->has('file-aio');

$t->start(main => 'thread_pool small threads=2 max_queue=4096;', http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    sendfile off;
    aio threads=small;
    output_buffers 2 16k;
    gzip_types *; gzip_comp_level 9;
    client_max_body_size 20m;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name heavy.test;
        location / { gzip on; }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        server_name light.test;
        location / { }
        location /sendfile/ { alias {{dir}}/html/; sendfile on; }
        location = /write { proxy_pass http://127.0.0.1:{{port:http}}/sink; proxy_set_header Host light.test;
            client_body_in_file_only on; }
        location = /sink { return 200 "sunk\\n"; }
        @{[ $file_aio ? 'location /direct/ { alias {{dir}}/html/; aio on; directio 512; }' : '' ]}
        location = /temp { proxy_pass http://127.0.0.1:{{port:http}}/large.txt; proxy_set_header Host light.test;
            aio_write on; proxy_buffers 4 4k; proxy_buffer_size 4k; proxy_busy_buffers_size 4k; }
    }
EOC

my $worker = $t->worker;
my $used = $t->measured(sub {
    my $answer = $t->get('/text.txt', host => 'heavy.test', headers => { 'Accept-Encoding' => 'gzip' });
    is($answer->{status}, 200, 'a file that is read by the pool');
    $t->logged(1);
});
my ($line) = $t->logged(1);
within($line->{ns}, $used, 0.9, 1.001, 'is charged the CPU of the worker\'s main thread');
cmp_ok($line->{wakeups}, '>', 10, 'completions of the pool are wakeups of the request');

# Two domains at once
$t->clear_log;
$used = $t->measured(sub {
    my @clients;
    for my $n (1 .. 8) {
        my ($heavy, $light) = ($t->connect('http'), $t->connect('http'));
        $heavy->request("/text.txt?$n", host => 'heavy.test', headers => { 'Accept-Encoding' => 'gzip' }, close => 1);
        $light->request("/part$n.txt", host => 'light.test', close => 1);
        push @clients, $heavy, $light;
    }
    my @answers = map { $_->response } @clients;
    is(scalar(grep { $_->{status} == 200 && $_->{complete} } @answers), 16, 'sixteen of them at the same time');
    $t->logged(16);
});
my @lines = $t->logged(16);
my ($heavy, $light) = map { my $server = $_;
    median(map { $_->{ns} } grep { $_->{server} eq $server } @lines) } qw(heavy.test light.test);
cmp_ok($heavy, '>', 5 * $light, 'each domain pays for its own, although their completions arrive together');
my $logged = sum(map { $_->{ns} } @lines);
within($logged, $used, 0.85, 1.001, 'the sum of all is the CPU of the main thread');
my %account = ('heavy.test' => $t->account_with('domains', 'heavy.test', 9),
    'light.test' => $t->account_with('domains', 'light.test', 8));
is("$account{'heavy.test'}{requests} $account{'light.test'}{requests}", '9 8', 'requests are counted');
is($account{$_}{in_flight}, 0, "$_: nothing is in flight any more") for sort keys %account;

# Other uses of the pool
my $before = $account{'light.test'}{requests};
is(length $t->get('/sendfile/large.txt', host => 'light.test')->{body}, 4_000_000, 'sendfile by the pool');
is(length $t->get('/temp', host => 'light.test')->{body}, 4_000_000, 'temporary files written by the pool');
is($t->get('/write', method => 'POST', body => 'x' x 3_000_000, host => 'light.test')->{status}, 200,
    'a body in a file');
my $requests = 5;
SKIP: {
    skip('no file-aio', 1) unless $file_aio;
    is(length $t->get('/direct/large.txt', host => 'light.test')->{body}, 4_000_000, 'kernel AIO');
    $requests++;
}
is($t->account_with('domains', 'light.test', $before + $requests)->{requests}, $before + $requests, 'all are counted');
@lines = $t->logged(16 + $requests);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), scalar @lines, 'and charged');

# The CPU of the pool's threads is not part of the worker totals
$t->quiet;
$t->status;
my ($books) = @{ $t->status->{workers} };
my $pool = $t->pool_ns($worker);
cmp_ok($books->{pool_threads_cpu_ns}, '>', 0, 'CPU of the pool\'s threads is shown');
within($books->{pool_threads_cpu_ns}, $pool, 0.5, 1.05, 'as the kernel counts it');

# A client leaves while the pool works for it
for (1 .. 20) {
    my $connection = $t->connect('http', window => 4096);
    $connection->request('/large.txt', host => 'light.test');
    $connection->fill(5);
    $connection->reset;
}
is($t->account_with('domains', 'light.test', $before + $requests + 20)->{in_flight}, 0,
    'aborted ones do not stay in flight');

$t->done;
