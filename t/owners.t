# Every handler call has an owner: hardly any work in a worker's handlers stays without one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

my $requests = 300;
my $t = Test::RequestCpu->new->need('proxy');
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    return $connection->answer("answer\n");
});
$t->html('a.txt', "plain\n");
$t->html('direct/large', 'x' x 200_000);
my $file_aio = $t->has('file-aio');
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    upstream alive { server 127.0.0.1:{{port:upstream}}; keepalive 4; }
    upstream idle { server 127.0.0.1:{{port:upstream}}; keepalive 4; keepalive_timeout 1s; }
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        @{[ $file_aio ? 'location /direct/ { aio on; directio 512; output_buffers 2 16k; }' : '' ]}
        location /fresh { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location /alive { proxy_pass http://alive; proxy_http_version 1.1; proxy_set_header Connection ""; }
        location /idle { proxy_pass http://idle; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
EOC

sub books {
    my ($worker) = @{ $t->status->{workers} };
    return { other => $worker->{other_ns}, handlers => $worker->{thread_cpu_ns} - $worker->{loop_ns} };
}

for my $case ([ 'static files', '/a.txt' ], [ 'fresh upstream connections', '/fresh' ],
    [ 'kept upstream connections', '/alive' ],
    $file_aio ? [ 'kernel AIO', '/direct/large' ] : ()) {
    my ($name, $uri) = @$case;
    $t->clear_log;
    my $before = books();
    my $connection = $t->connect('http');
    $connection->get($uri, host => 'owner.test') for 1 .. $requests;
    $connection->close;
    $t->logged($requests);
    my $after = books();
    my ($other, $handlers) = map { $after->{$_} - $before->{$_} } qw(other handlers);
    cmp_ok($handlers, '>', 0, "$name: the worker works");
    cmp_ok($other, '<', 0.005 * $handlers, sprintf '%s: %.3f %% of it is nobody\'s', $name, 100 * $other / $handlers);
}

# An upstream connection that is idle until its timeout
my %was = map {
    $t->get('/idle', host => $_);
    $_ => $t->account_with('hosts', $_, 1)->{cpu_ns};
} 'first.test', 'last.test';
my $before = books();
ok(wait_until(60, sub { sleep 0.1; $t->account('hosts', 'last.test')->{cpu_ns} > $was{'last.test'} }),
    'closing it is charged to whom it was used for last');
is($t->account('hosts', 'first.test')->{cpu_ns}, $was{'first.test'}, 'and not to those that had it before');
my $closing = $t->account('hosts', 'last.test')->{cpu_ns} - $was{'last.test'};
cmp_ok(books()->{other} - $before->{other}, '<', $closing, 'and it has an owner');

$t->done;
