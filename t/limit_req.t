# Requests that another module delays.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(time);

my $t = Test::RequestCpu->new->need('limit_req');
$t->html('a.txt', "plain\n");
$t->html('burn.txt', "plain\n");

$t->start(http => <<"EOC");
    limit_req_zone \$server_name zone=slow:1m rate=40r/s;
    limit_req_zone \$server_name zone=strict:1m rate=1r/m;
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name delayed.test;
        location / { limit_req zone=slow burst=50; }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        server_name refused.test;
        location / { limit_req zone=strict; }
    }
EOC

my ($start, $many) = (time, 40);
my ($used, $work) = $t->worked(sub {
    my @clients = map { my $c = $t->connect('http'); $c->request('/a.txt', host => 'delayed.test', close => 1);
        $c } 1 .. $many;
    is(join(' ', map { $_->response->{status} } @clients), join(' ', (200) x $many),
        'requests over the rate are answered, later');
    $t->logged($many);
});
cmp_ok(time - $start, '>', 0.7, 'they had to wait');
my @lines = $t->logged($many);
my $charged = sum(map { $_->{ns} } @lines);
cmp_ok($charged, '<=', $used, 'all together are charged no more than the thread used, and so not for the delay');
within($charged, $work, 0.5, 1.1, 'and most of its work');
cmp_ok(scalar(grep { $_->{wakeups} >= 2 } @lines), '>=', 0.5 * $many,
    'those that were delayed were woken again for that');
my $account = $t->account_with('domains', 'delayed.test', $many);
is($account->{requests}, $many, 'each is counted once');
within($account->{cpu_ns}, $work, 0.8, 1.1, 'with all that the thread did');

$t->clear_log;
my @status = map { $t->get('/a.txt', host => 'refused.test')->{status} } 1 .. 5;
is_deeply(\@status, [ 200, (503) x 4 ], 'requests over the rate are refused');
@lines = $t->logged(5);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 5, 'a refused request is charged too');
$account = $t->account_with('domains', 'refused.test', 5);
is_deeply($account->{responses}, { '1xx' => 0, '2xx' => 1, '3xx' => 0, '4xx' => 0, '5xx' => 4 },
    'and counted in its class');
is($account->{in_flight}, 0, 'nothing is in flight');

# A client leaves while its request is delayed
$t->clear_log;
my @clients = map { my $c = $t->connect('http'); $c->request('/a.txt', host => 'delayed.test', close => 1); $c } 1 .. 5;
$_->close for @clients[2 .. 4];
@lines = $t->logged(5);
is(scalar(grep { $_->{status} == 499 } @lines), 3, 'clients that give up in the delay are seen');
is($t->account_with('domains', 'delayed.test', 11)->{in_flight}, 0, 'and their requests end');

$t->done;
