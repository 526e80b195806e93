# A new binary replaces the old one, or fails to start. Old and new workers count in the same accounts.

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

sub http {
    my (%change) = @_;
    my ($key, $size, $more) = ($change{key} || '$host', $change{size} || '1m', $change{more} || '');
    return <<"EOC";
    request_cpu_zone $key zone=hosts:$size;
    request_cpu_zone \$uri zone=uris:64k;
    request_cpu zone=hosts zone=uris;
    $more
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /slow.txt { limit_rate 10k; }
    }
EOC
}

# Shared memory that a process has open by descriptor, and that a new binary would inherit.
sub memories {
    my ($pid) = @_;
    my @open = sort grep { defined && /request_cpu/ } map { readlink } glob "/proc/$pid/fd/*";
    return @open;
}

# Sends requests, each on its own connection, since NGINX may close a keep-alive one.
sub load {
    my ($t, $seconds) = @_;
    my ($end, $sent, $failed) = (time + $seconds, 0, 0);
    while (time < $end) {
        my $answer = eval { $t->get('/a.txt', host => 'load.test') };
        $sent++;
        $failed++ unless $answer && $answer->{status} == 200 && $answer->{body} eq "plain\n";
    }
    return { sent => $sent, failed => $failed };
}

sub requests { my ($key, $least) = @_; return $t->account_with('hosts', $key, $least)->{requests} }

# Counters of Prometheus' format that have decreased.
sub fallen {
    my ($before) = @_;
    my ($now) = $t->prometheus;
    my $id = sub { my ($sample) = @_; return join ' ', $sample->[0],
        map { "$_=$sample->[1]{$_}" } sort keys %{ $sample->[1] } };
    my %now = map { $id->($_) => $_->[2] } @$now;
    return [ map { $id->($_) . " was $_->[2]" }
        grep { $_->[0] =~ /_total$/ && !(($now{ $id->($_) } || 0) >= $_->[2]) } @$before ];
}

$t->start(daemon => 1, main => 'worker_processes 2;', http => http());
my @memories = memories($t->master);
is(scalar(@memories), 3, 'the master has the memory of two zones and of the worker totals open')
    or diag(explain(\@memories));
is_deeply([ map { memories($_) } $t->workers ], [], 'its workers have not: nothing that they execute can inherit it');

# Under load
my $slow = $t->connect('http');
$slow->request('/slow.txt', host => 'slow.test');
ok(wait_until(60, sub { $t->account('hosts', 'slow.test')->{in_flight} == 1 }), 'a long request is in flight');
my @clients = map { detached(sub { load($t, 5) }) } 1 .. 3;
sleep 0.5;
my ($samples) = $t->prometheus;
my $old = $t->master;
ok($t->upgrade, 'a new master runs beside the old one');
isnt($t->master, $old, 'as another process');
is_deeply([ memories($t->master) ], \@memories, 'with the same memory');
is_deeply([ map { memories($_) } $t->workers ], [], 'which its workers have not open either');
is_deeply(fallen($samples), [], 'no counter fell');
ok((grep { $_->[0] eq 'nginx_request_cpu_worker_uncounted_seconds_total' && $_->[2] > 0 } @$samples),
    'that of uncounted CPU is one of them');
is(scalar(@{ $t->status->{workers} }), 4, 'the totals of old and new workers are shown');
is($t->account('hosts', 'slow.test')->{in_flight}, 1, 'and the request that an old one serves');
sleep 1;
($samples) = $t->prometheus;
is($t->retire, 0, 'the old workers and the old master end');
is(length $slow->response->{body}, 60_000, 'not before the long request has its answer');
$slow->close;
my @results = map { $_->result } @clients;
my $sent = sum(map { $_->{sent} } @results);
cmp_ok($sent, '>', 100, 'all this under load');
is(sum(map { $_->{failed} } @results), 0, 'and no request fails');
is(requests('load.test', $sent), $sent, 'requests of old and new workers are in one account, to the last one');
is(requests('slow.test', 1), 1, 'so is the long one');
is($t->account('hosts', 'slow.test')->{in_flight}, 0, 'which is not in flight any more');
is($t->account_with('uris', '/a.txt', $sent)->{requests}, $sent, 'in every zone');
is_deeply(fallen($samples), [], 'no counter fell when the old ones went');
my @lines = $t->logged($sent, sub { $_[0]{host} eq 'load.test' });
cmp_ok($t->account('hosts', 'load.test')->{cpu_ns}, '>=', sum(map { $_->{ns} } @lines), 'with their CPU');
ok(wait_until(60, sub { @{ $t->status->{workers} } == 2 }), 'the totals are those of the remaining workers');
$t->check_totals(name => 'after the upgrade');

# The new master works like the old one
ok($t->reload, 'a reload of the new master');
is(requests('load.test', $sent), $sent, 'keeps the accounts');
is_deeply([ memories($t->master) ], \@memories, 'and leaves nothing open');
ok($t->upgrade, 'one more upgrade');
$t->get('/a.txt', host => 'load.test') for 1 .. 10;
is($t->retire, 0, 'to the end');
is(requests('load.test', $sent + 10), $sent + 10, 'also continues');

# An upgrade that is rolled back
ok($t->upgrade, 'a new binary');
$t->get('/a.txt', host => 'load.test') for 1 .. 10;
ok($t->take_back, 'that is told to go');
$t->get('/a.txt', host => 'load.test') for 1 .. 10;
is(requests('load.test', $sent + 30), $sent + 30, 'leaves its counts');
is(scalar($t->workers), 2, 'to the old one');

# A new binary that does not start
my $running = $t->{part};
$t->write_file($t->dir . '/html/b.txt', '');
$t->_write_config(%$running, http => http(more => 'request_cpu zone=none;'));
kill USR2 => $t->master;
ok(wait_until(60, sub { $t->error_log =~ /\[alert\].*new binary|exited with code 1/
    && !-e $t->dir . '/nginx.pid.oldbin' }), 'a new binary that cannot start');
is(requests('load.test', $sent + 30), $sent + 30, 'changes nothing');
$t->expect_log(qr/\[emerg\].*none|\[emerg\].*duplicate/, qr/\[alert\]/);

# Another configuration
$t->_write_config(%$running);
ok($t->upgrade(http => http(size => '2m')), 'an upgrade to another size');
is($t->retire, 0, 'to the end');
is($t->status->{zones}{hosts}{size_bytes}, 2 * 1024 * 1024, 'has that size');
is(requests('load.test', $sent + 30), $sent + 30, 'and the accounts of before');
is(scalar(memories($t->master)), 3, 'and nothing is left open');

ok($t->upgrade(http => http(size => '2m', key => '$server_port')), 'an upgrade to another key');
like($t->error_log, qr/\[notice\].*"hosts".*another key/, 'is noted');
is($t->retire, 0, 'to the end');
is($t->account('hosts', 'load.test')->{requests}, 0, 'it starts with empty counters');
is(scalar(memories($t->master)), 3, 'and nothing is left open');

my $without = http(size => '2m', key => '$server_port');
$without =~ s/.*uris:64k.*\n//;
$without =~ s/ zone=uris//;
ok($t->upgrade(http => $without), 'an upgrade without a zone');
is($t->retire, 0, 'to the end');
is(scalar(memories($t->master)), 2, 'has not its memory');
$t->get('/a.txt', host => 'load.test');
ok($t->account_with('hosts', $t->port('http'), 1)->{requests} >= 1, 'and counts');

$t->done;
