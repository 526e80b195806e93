# Clients that leave early.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new;
$t->html('large.txt', 'x' x 8_000_000);
$t->html('a.txt', "plain\n");
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    sleep 2;
    return $connection->answer("late\n");
});

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /upstream { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /ignore { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_ignore_client_abort on; }
        location = /burn { @{[ burn_rules(4) ]} proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /body { client_max_body_size 10m; proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
EOC

sub counted {
    my ($name, $host, $requests, $status) = @_;
    my @lines = $t->logged($requests, sub { $_[0]{host} eq $host });
    is(scalar(grep { $_->{status} =~ $status } @lines), $requests, "$name: logged");
    is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), $requests, "$name: charged");
    my $account = $t->account_with('hosts', $host, $requests);
    is($account->{requests}, $requests, "$name: counted once each");
    is($account->{in_flight}, 0, "$name: not in flight any more");
    cmp_ok($account->{cpu_ns}, '>=', sum(map { $_->{ns} } @lines), "$name: their CPU is in the account");
    return ($account, @lines);
}

for (1 .. 20) {
    my $connection = $t->connect('http', window => 4096);
    $connection->request('/large.txt', host => 'download.test');
    $connection->fill(5);
    $_ % 2 ? $connection->close : $connection->reset;
}
my ($account) = counted('in the middle of a download', 'download.test', 20, qr/^200$/);
cmp_ok($account->{sent_bytes}, '<', 20 * 8_000_000, 'sent bytes count only bytes that were sent');

my @waiting = map { my $c = $t->connect('http'); $c->request('/upstream', host => 'waiting.test'); $c } 1 .. 5;
ok(wait_until(60, sub { $t->account('hosts', 'waiting.test')->{in_flight} == 5 }), 'requests that wait are in flight');
$_->close for @waiting;
counted('while the upstream thinks', 'waiting.test', 5, qr/^499$/);

my @ignored = map { my $c = $t->connect('http'); $c->request('/ignore', host => 'ignored.test'); $c } 1 .. 3;
sleep 0.2;
$_->close for @ignored;
counted('where NGINX goes on nevertheless', 'ignored.test', 3, qr/^(?:200|499)$/);

# The client leaves before the worker reads its request
my $burning = $t->connect('http');
$burning->request('/burn?x=' . burn_text(20), host => 'burning.test');
sleep 0.02;
my @gone = map { my $c = $t->connect('http'); $c->request('/a.txt', host => 'gone.test', close => 1); $c->close;
    $c } 1 .. 10;
$burning->close;
counted('while the worker burns for it', 'burning.test', 1, qr/^499$/);
counted('before the worker came to it', 'gone.test', 10, qr/^(?:200|400|499)$/);

for (1 .. 5) {
    my $connection = $t->connect('http');
    $connection->send("POST /body HTTP/1.1\r\nHost: body.test\r\nContent-Length: 1000000\r\n\r\n" . 'x' x 50_000);
    sleep 0.02;
    $connection->close;
}
counted('in the middle of a body', 'body.test', 5, qr/^(?:400|499)$/);

is($t->get('/a.txt')->{status}, 200, 'the server goes on');
$t->done;
