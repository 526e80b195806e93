# The module does not delay the end of a worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('slow.txt', 'x' x 60_000);
my %part = (main => 'worker_processes 2;', http => <<'EOC');
    request_cpu_zone $host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /slow.txt { limit_rate 8k; }
    }
EOC

# A reload ends old workers although clients keep their connections open
$t->start(%part);
my @kept = map { my $c = $t->connect('http'); $c->get('/a.txt', host => 'kept.test'); $c } 1 .. 10;
$t->get('/a.txt', host => 'one.test') for 1 .. 20;
sleep 1.2;    # a timer of the module, had it one, is running now
my @old = $t->workers;
my $start = time;
ok($t->reload, 'reload');
ok(wait_until(20, sub { !grep { kill 0, $_ } @old }), 'old workers end at once');
$_->close for @kept;

# A stop as well
@kept = map { my $c = $t->connect('http'); $c->get('/a.txt', host => 'kept.test'); $c } 1 .. 10;
$start = time;
is($t->stop(within => 20), 0, 'a graceful stop ends by itself');
cmp_ok(time - $start, '<', 20, 'and at once, not when the connections have been idle for long');
$_->close for @kept;

# A running request is served to its end, charged and counted
unlink $t->dir . '/access.log';
$t->start(%part);
my $slow = $t->connect('http');
$slow->request('/slow.txt', host => 'slow.test');
ok(wait_until(60, sub { $t->account('hosts', 'slow.test')->{in_flight} == 1 }), 'a request is in flight');
my ($serving) = $t->workers;
@old = $t->workers;
ok($t->reload, 'a reload while it runs');
is($t->account('hosts', 'slow.test')->{in_flight}, 1, 'it is in flight still, in an old worker');
is(length $slow->response->{body}, 60_000, 'and served to its end');
my $ended = time;
ok(wait_until(20, sub { !grep { kill 0, $_ } @old }), 'the old worker ends after it');
$slow->close;
my ($line) = $t->logged(1);
like($line->{ns}, qr/^[1-9]\d*$/, 'it is charged');
my $account = $t->account_with('hosts', 'slow.test', 1);
is($account->{requests}, 1, 'and counted');
is($account->{in_flight}, 0, 'and not in flight any more');
is($account->{sent_bytes}, $line->{sent}, 'with all its bytes');

# A fast stop leaves no request in flight for the next server, and does not crash
my $cut = $t->connect('http');
$cut->request('/slow.txt', host => 'cut.test');
wait_until(60, sub { $t->account('hosts', 'cut.test')->{in_flight} == 1 });
my $books = $t->check_totals(name => 'before a fast stop');
is($t->stop(signal => 'TERM', within => 20), 0, 'a fast stop ends at once, whatever is open');

$t->done(no_totals => 1);
