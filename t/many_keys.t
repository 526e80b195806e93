# Ten thousand keys: the status page is long, and complete.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;
use Time::HiRes qw(sleep);

my $keys = 10_000;
my $t = Test::RequestCpu->new;
$t->start(http => <<"EOC");
    request_cpu_zone \$arg_k zone=many:32m;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { request_cpu zone=many; access_log off; return 200 "x"; }
    }
    server {
        listen 127.0.0.1:{{port:low}};
        access_log off;
        location / { request_cpu_status detail=low; }
    }
EOC

my $connection = $t->connect('http');
my $fine = 0;
for (my $n = 1; $n <= $keys; $n += 100) {
    $connection->send(join '',
        map { Test::RequestCpu::Connection->request_text("/?k=customer-$_.example.com") } $n .. $n + 99);
    for (1 .. 100) { $fine++ if $connection->response->{status} == 200 }
}
$connection->close;
is($fine, $keys, "$keys requests with a key each");

my $zone = $t->status->{zones}{many};
is($zone->{accounts}, $keys, 'make as many accounts');
is(scalar(keys %{ $zone->{keys} }), $keys, 'which are all in the JSON document');
is($zone->{overflowed}, 0, 'none of them overflowed');
is(sum(map { $_->{requests} } values %{ $zone->{keys} }), $keys, 'with a request each');

my ($samples, $text) = $t->prometheus;
is(scalar(grep { $_->[0] eq 'nginx_request_cpu_seconds_total' } @$samples), $keys, 'and all in Prometheus\' format');

my $low = $t->get('/?format=json', port => 'low');
my $detailed = $t->get('/?format=json', port => 'status');
ok($low->{complete} && $detailed->{complete}, 'both documents are whole');
cmp_ok(length $low->{body}, '<', length($detailed->{body}) * 0.8, 'detail=low is shorter');
my $one = $t->status('zone=many&key=customer-5000.example.com')->{zones}{many}{keys};
is_deeply([ keys %$one ], ['customer-5000.example.com'], 'one key can be picked out');

# A slow reader, a reader that leaves, and a reader that asks only for the size
my $slow = $t->connect('status', window => 4096);
$slow->request('/?format=json');
sleep 0.3;
is($t->get('/?k=other')->{status}, 200, 'a slow reader of the status page does not stand in the way');
my $read = $slow->response;
ok($read->{complete}, 'and gets it all');
my $gone = $t->connect('status', window => 4096);
$gone->request('/?format=json');
$gone->fill(5);
$gone->reset;
is($t->get('/?format=json', method => 'HEAD', port => 'status')->{body}, '', 'HEAD has no body');

$t->done(query => 'key=customer-1.example.com');
