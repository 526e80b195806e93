# With accept_mutex, NGINX itself defers events: accepting first, timers, then the rest.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('slow.txt', 'x' x 30_000);
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub { $_[0]->answer("answer\n") });

$t->start(main => 'worker_processes 2;', events => 'accept_mutex on;', http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /burn { @{[ burn_rules(1) ]} return 200 "x"; }
        location = /slow.txt { limit_rate 30k; }
        location = /upstream { proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
EOC

my $used = $t->measured(sub {
    my @clients = map {
        detached(sub {
            my $fine = 0;
            for my $n (1 .. 100) {
                my $uri = $n % 10 ? '/a.txt' : '/upstream';
                $fine++ if $t->get($uri, host => 'load.test')->{status} == 200;
            }
            return $fine;
        });
    } 1 .. 4;
    is(sum(map { $_->result } @clients), 400, 'requests of four clients are answered');
    $t->logged(400);
});
my @lines = $t->logged(400);
my $account = $t->account_with('hosts', 'load.test', 400);
is($account->{requests}, 400, 'and counted');
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ && $_->{conn_ns} > 0 } @lines), 400,
    'each is charged, with the CPU of its accept');
ok($account->{cpu_ns} <= $used, 'no more than the workers used') or diag("$account->{cpu_ns} of $used");

# Events that arrive together are attributed separately
$t->clear_log;
my @dear = map { my $c = $t->connect('http'); $c->request('/burn?x=' . burn_text(20), host => 'dear.test', close => 1);
    $c } 1 .. 3;
my @cheap = map { my $c = $t->connect('http'); $c->request('/a.txt', host => 'cheap.test', close => 1); $c } 1 .. 20;
is(scalar(grep { $_->response->{status} == 200 } @dear, @cheap), 23, 'expensive and cheap requests at the same time');
@lines = $t->logged(23);
my $least = (sort { $a <=> $b } map { $_->{ns} } grep { $_->{host} eq 'dear.test' } @lines)[0];
is(scalar(grep { $_->{host} eq 'cheap.test' && $_->{ns} * 5 < $least } @lines), 20,
    'the cheap ones are not charged for the expensive ones');

# Timers
(my $charged, $used) = $t->charged_and_used(1, sub {
    my $slow = $t->get('/slow.txt', host => 'slow.test');
    is(length $slow->{body}, 30_000, 'a request that waits for a timer');
});
cmp_ok($charged, '<=', $used, 'is charged its work, and not the time');

$t->done(more => 1);

# A worker releases the mutex before it handles events, so that another worker can accept meanwhile
$t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->start(main => 'worker_processes 2;', events => 'accept_mutex on; accept_mutex_delay 20ms;', http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /burn { @{[ burn_rules(24) ]} return 200 "x"; }
    }
EOC
my ($letters, $took) = (15, 0);
while ($took < 1 && $letters < 21) {
    $letters++;
    my $start = time;
    $t->get('/burn?x=' . burn_text($letters));
    $took = time - $start;
}
# The test looks at the order of the answers, not at their time. Sometimes the same worker has both connections.
my ($tries, $first) = (0, 0);
while ($first < 3 && $tries < 20) {
    $tries++;
    my $burner = $t->connect('http');
    $burner->request('/burn?x=' . burn_text($letters), close => 1);
    sleep 0.1;
    $t->get('/a.txt');
    $first++ if !defined $burner->fill(0);
    $burner->response;
    $burner->close;
}
is($first, 3, 'a worker that is busy does not keep the mutex from the other one') or diag("$first times of $tries");
$t->done(no_totals => 1, more => 1);

done_testing();
