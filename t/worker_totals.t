# The worker totals of a busy worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;
use Time::HiRes qw(time);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:{{port:http}};
        access_log off;
        location / { }
    }
EOC

my ($idle) = @{ $t->status->{workers} };
cmp_ok($idle->{charged_ns}, '<=', $idle->{thread_cpu_ns}, 'a worker that has just started');

# Sends small static requests on several connections, as fast as possible
sub load {
    my ($seconds) = @_;
    my @connections = map { $t->connect('http') } 1 .. 4;
    my $text = Test::RequestCpu::Connection->request_text('/a.txt', host => 'busy.test');
    my ($end, $sent) = (time + $seconds, 0);
    while (time < $end) {
        $_->send($text) for @connections;
        for my $connection (@connections) { $connection->response->{status} == 200 or die "no answer\n"; $sent++ }
    }
    return $sent;
}
my ($before) = @{ $t->status->{workers} };
my $sent;
my $used = $t->measured(sub { my @clients = map { detached(sub { load(1.5) }) } 1 .. 2;
    $sent = sum(map { $_->result } @clients) });
my ($after) = @{ $t->status->{workers} };
my %part = map { $_ => $after->{$_}
    - $before->{$_} } qw(thread_cpu_ns charged_ns no_request_ns loop_ns other_ns wakeups);
cmp_ok($sent, '>', 500, 'a load of small requests');
is($part{thread_cpu_ns}, $part{charged_ns} + $part{no_request_ns} + $part{loop_ns} + $part{other_ns},
    'the worker totals add up');
within($part{thread_cpu_ns}, $used, 0.97, 1.03, 'and are those of the thread');
my $work = $part{thread_cpu_ns} - $part{loop_ns};
within($part{charged_ns}, $work, 0.97, 1, 'at least 97 % of the CPU outside of the event loop is charged')
    or diag(explain(\%part));
cmp_ok($part{other_ns}, '<=', $part{charged_ns} / 100, 'CPU without an owner is less than a hundredth of that');
cmp_ok($part{wakeups}, '>=', $sent / 4, 'wakeups are counted');

my $account = $t->account_with('hosts', 'busy.test', $sent);
is($account->{requests}, $sent, 'every request is in the account');
within($account->{cpu_ns}, $part{charged_ns}, 0.95, 1, 'with the charged CPU');

# The totals of an idle worker do not change, except for the loop
$t->quiet;
my $kernel = $t->sched_ns($t->worker);
my ($one) = @{ $t->status->{workers} };
select undef, undef, undef, 1.2;
my ($two) = @{ $t->status->{workers} };
$t->quiet;
$kernel = $t->sched_ns($t->worker) - $kernel;
cmp_ok($two->{other_ns} - $one->{other_ns}, '<', $kernel, 'time that passes is no CPU');
cmp_ok($two->{thread_cpu_ns} - $one->{thread_cpu_ns}, '<', $kernel, 'for the thread neither');

# Totals in the status always add up, also while a request is being handled
my @faults;
my $client = detached(sub { load(1) });
my $end = time + 1;
while (time < $end) { push @faults, Test::RequestCpu::totals_faults($t->status->{workers}) }
$client->result;
is_deeply(\@faults, [], 'the worker totals add up at every moment');

$t->done;
