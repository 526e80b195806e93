# A reload changes the configuration; no request and no account is lost.

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
    my ($key, $size, $zones) = ($change{key} || '$host', $change{size} || '1m', $change{zones} || 'zone=hosts');
    my $more = $change{more} || '';
    return <<"EOC";
    request_cpu_zone $key zone=hosts:$size;
    $more
    request_cpu $zones;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /slow.txt { limit_rate 20k; }
    }
EOC
}

my $main = 'worker_processes 2;';
$t->start(main => $main, http => http());

# Load: each request has its own connection, since NGINX may close a keep-alive one when it reloads.
sub load {
    my ($seconds) = @_;
    my ($end, $sent, $failed) = (time + $seconds, 0, 0);
    while (time < $end) {
        my $answer = eval { $t->get('/a.txt', host => 'load.test') };
        $sent++;
        $failed++ unless $answer && $answer->{status} == 200 && $answer->{body} eq "plain\n";
    }
    return { sent => $sent, failed => $failed };
}
my $slow = $t->connect('http');
$slow->request('/slow.txt', host => 'slow.test');
my @clients = map { detached(sub { load(4) }) } 1 .. 3;
my $reloads = 0;
for (1 .. 4) { sleep 0.5; $reloads++ if $t->reload }
my @results = map { $_->result } @clients;
is($reloads, 4, 'four reloads');
my $sent = sum(map { $_->{sent} } @results);
cmp_ok($sent, '>', 100, 'happen under load');
is(sum(map { $_->{failed} } @results), 0, 'and no request fails');
is(length $slow->response->{body}, 60_000, 'a request that was there before is served to its end');
$slow->close;

my $account = $t->account_with('hosts', 'load.test', $sent);
is($account->{requests}, $sent, 'requests of old and new workers are in one account');
my @lines = $t->logged($sent, sub { $_[0]{host} eq 'load.test' });
cmp_ok($account->{cpu_ns}, '>=', sum(map { $_->{ns} } @lines), 'with their CPU');
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), $sent, 'every one of them was measured');
is($t->account_with('hosts', 'slow.test', 1)->{requests}, 1, 'so is the one that was served by an old worker');
wait_until(60, sub { !$t->workers(old => 1) });
is($t->account('hosts', $_)->{in_flight}, 0, "nothing of $_ is in flight") for qw(load.test slow.test);

my $workers = $t->status->{workers};
my %now = map { $_ => 1 } $t->workers;
is(scalar(grep { $now{ $_->{pid} } } @$workers), 2, 'the totals are those of the serving workers');
$t->check_totals(name => 'after the reloads');

# Counters continue
my $before = $t->account('hosts', 'load.test');
ok($t->reload, 'one more reload');
my $after = $t->account('hosts', 'load.test');
is_deeply([ @$after{qw(requests cpu_ns wakeups sent_bytes received_bytes)} ],
    [ @$before{qw(requests cpu_ns wakeups sent_bytes received_bytes)} ],
    'counters are as they were');
$t->get('/a.txt', host => 'load.test');
is($t->account_with('hosts', 'load.test', $sent + 1)->{requests}, $sent + 1, 'and go on');

# Workers start and end
for my $workers (4, 1, 2) {
    ok($t->reload(main => "worker_processes $workers;"), "a reload to $workers worker(s)");
    wait_until(60, sub { !$t->workers(old => 1) && $t->workers == $workers });
    my @shown = sort { $a <=> $b } map { $_->{pid} } @{ $t->status->{workers} };
    is_deeply(\@shown, [ $t->workers ], 'shows the totals of living workers');
    $t->get('/a.txt', host => "workers$workers.test") for 1 .. 10;
    is($t->account_with('hosts', "workers$workers.test", 10)->{requests}, 10, 'who count as ever');
}

# Zones are added and removed
ok($t->reload(http => http(more => 'request_cpu_zone $server_port zone=ports:64k;', zones => 'zone=hosts zone=ports')),
    'a zone is added');
$t->get('/a.txt', host => 'load.test');
is($t->account_with('ports', $t->port('http'), 1)->{requests}, 1, 'and counts');
is($t->account_with('hosts', 'load.test', $sent + 2)->{requests}, $sent + 2, 'beside the old one');
ok($t->reload(http => http()), 'it is removed');
is_deeply([ keys %{ $t->status->{zones} } ], ['hosts'], 'and gone');
is($t->account('hosts', 'load.test')->{requests}, $sent + 2, 'the other one is still there');

# A changed key is refused, as limit_req does it; the running configuration stays
my %old = map { $_ => 1 } $t->workers;
my $part = { %{ $t->{part} } };
$t->_write_config(%$part, http => http(key => '$server_name'));
kill HUP => $t->master;
ok(wait_until(60, sub { $t->error_log =~ /\[emerg\]/ }), 'a reload that changes the key is refused');
my ($message) = grep { /\[emerg\]/ } split /\n/, $t->error_log;
like($message, qr/hosts/, 'the message names the zone');
like($message, qr/\$host/, 'the key it had');
like($message, qr/\$server_name/, 'and the key it should get');
is(scalar(grep { $old{$_} } $t->workers), 2, 'the workers stay');
$t->get('/a.txt', host => 'load.test');
is($t->account_with('hosts', 'load.test', $sent + 3)->{requests}, $sent + 3, 'and count as before');
$t->expect_log(qr/\[emerg\].*hosts/);

# A changed size: NGINX makes a new segment, and the accounts are copied
ok($t->reload(http => http(size => '2m')), 'a reload that changes the size');
my $zone = $t->status->{zones}{hosts};
is($zone->{size_bytes}, 2 * 1024 * 1024, 'has the new size');
is($zone->{keys}{'load.test'}{requests}, $sent + 3, 'and the accounts of before');
$t->get('/a.txt', host => 'load.test');
is($t->account_with('hosts', 'load.test', $sent + 4)->{requests}, $sent + 4, 'which go on');
like($t->error_log, qr/\[notice\].*"hosts": \d+ accounts restored/, 'as the log says');
ok($t->reload(http => http(size => '32k')), 'a smaller one');
is($t->status->{zones}{hosts}{keys}{'load.test'}{requests}, $sent + 4, 'has them too, as far as there is room');
ok($t->reload(http => http(size => '2m')), 'back again');

# A reload that fails after the zones were made: a port is in use
my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => free_port(), Listen => 1) or die;
my $more = 'request_cpu_zone $server_port zone=ports:64k; server { listen 127.0.0.1:' . $taken->sockport . '; }';
# the open files of the master, in order; sockets to workers that end come and go
sub opened {
    return [ map { my $what = readlink; defined $what && $what !~ /^socket:/ ? $what : () } glob '/proc/' . $t->master
        . '/fd/*' ];
}
my $opened = opened();
my $running = { %{ $t->{part} } };
$t->_write_config(%$running, http => http(size => '4m', more => $more));
kill HUP => $t->master;
ok(wait_until(60, sub { $t->error_log =~ /still could not bind/ }), 'a reload that fails late');
$t->expect_log(qr/\[emerg\].*bind/);
$t->_write_config(%$running);
is($t->account('hosts', 'load.test')->{requests}, $sent + 4, 'leaves the accounts as they were');
is_deeply(opened(), $opened, 'and nothing open');
ok($t->reload, 'the next one');
is($t->account('hosts', 'load.test')->{requests}, $sent + 4, 'finds them again');
is(scalar(grep { /memfd/ } @{ opened() }), scalar(grep { /memfd/ } @$opened), 'in the same memory');

# The module is switched off and on again
ok($t->reload(log => 0, http => http(size => '2m', zones => 'off')), 'switched off for all requests');
is($t->get('/a.txt', host => 'load.test')->{status}, 200, 'requests are served');
is($t->account('hosts', 'load.test')->{requests}, $sent + 4, 'and not counted');
ok($t->reload(log => 1, http => http(size => '2m')), 'switched on again');
$t->get('/a.txt', host => 'load.test');
is($t->account_with('hosts', 'load.test', $sent + 5)->{requests}, $sent + 5, 'and counted again');

wait_until(60, sub { !$t->workers(old => 1) });
$t->done;
