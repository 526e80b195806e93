# A reload while an answer with many keys is made: the old worker completes it first.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;

my $keys = 20_000;
my $t = Test::RequestCpu->new->need('gzip');
my $http = <<'EOC';
    request_cpu_zone $arg_k zone=many:40m;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { request_cpu zone=many; access_log off; return 204; }
        location = /json { request_cpu_status format=json; gzip on; gzip_types *; }
    }
EOC
$t->start(http => $http);
my $connection = $t->connect('http');
$connection->send(Test::RequestCpu::Connection->request_text('/?k=0'));
my $length = length $connection->response->{raw};
for (my $n = 0; $n < $keys; $n += 500) {
    $connection->send(join '', map { Test::RequestCpu::Connection->request_text("/?k=$_") } $n .. $n + 499);
    $connection->read_bytes(500 * $length);
}
$connection->close;

# A client that reads as fast as possible. Making the answer takes longer than sending it: the worker waits for
# nothing, and has no timer of its own.
for my $n (1 .. 5) {
    my $worker = $t->worker;
    my $client = $t->connect('http');
    $client->request('/json', headers => { 'Accept-Encoding' => 'gzip' });
    $client->fill(5);
    kill HUP => $t->master;
    my $answer = $client->response;
    ok($answer->{complete}, "reload $n: the answer is complete") or diag(length($answer->{body} || ''));
    $client->close;
    ok(wait_until(60, sub { !kill 0 => $worker }), 'and then the old worker is gone');
}

$t->done(no_totals => 1);
