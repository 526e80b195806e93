# Workers are killed at any instruction, again and again, while requests are served and accounts are made. No count is
# lost, and no lock stays held.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Torture;
use Time::HiRes qw(sleep time);

my ($kills, $workers, $clients) = (200, 4, 4);
my @hosts = map { "host$_.test" } 1 .. 8;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('slow.txt', 'x' x 4_000_000);
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);

# The small zone is full at once, the zone "storm" after a while.
$t->start(main => "worker_processes $workers;", log => 0, http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu_zone \$arg_new zone=small:64k;
    request_cpu_zone \$arg_new zone=storm:24m;
    request_cpu zone=hosts zone=small zone=storm;
    log_format brief '\$pid \$host \$arg_new';
    server {
        listen 127.0.0.1:{{port:http}};
        access_log {{dir}}/brief.log brief;
        location / { }
        location = /slow.txt { limit_rate 2k; access_log off; }
    }
    server {
        # a socket of its own for each worker
        listen 127.0.0.1:{{port:each}} reuseport;
        request_cpu off;
        location / { return 200 \$pid; }
    }
    server {
        listen 127.0.0.1:{{port:low}};
        access_log off;
        request_cpu off;
        location = /low { request_cpu_status detail=low; }
    }
EOC

my $stop = $t->dir . '/stop';
my @clients = map {
    my $number = $_;
    detached(sub {
        my ($asked, $going) = (0, 1);
        return client($t,
            sub { $going = !-e $stop if $asked % 64 == 0; return $going },
            sub {
                $asked++;
                my $host = $hosts[ rand @hosts ];
                # one client requests only new keys, the others do so now and then
                my $query = $number == 1 || $asked % 16 == 0 ? "?new=$number.$asked" : '';
                return ("GET /a.txt$query HTTP/1.1\r\nHost: $host\r\n\r\n", $host);
            },
        );
    });
} 1 .. $clients;

sub slow_request {
    my $connection = $t->connect('http');
    $connection->request('/slow.txt', host => 'slow.test');
    return $connection;
}

my (%before, @falls, @silent, @slow, %stormed, %killed);
my ($killed, $slowest) = (0, 0);
while ($killed < $kills) {
    push @slow, slow_request() if $killed % 4 == 0;
    sleep 0.02 + rand 0.25;
    my @now = $t->workers;
    # now and then all workers at once
    my @victims = rand() < 0.05 ? @now : $now[ rand @now ];
    $killed += kill KILL => @victims;
    @killed{@victims} = ();
    my $start = time;
    for my $zone ('hosts', 'small', $killed % 50 < 2 ? 'storm' : ()) {
        my $read = eval { accounts($t, $zone, timeout => 10) };
        if (!$read) { push @silent, "after kill $killed: $@"; next }
        # the other zones are large
        $slowest = time - $start if $zone eq 'hosts' && time - $start > $slowest;
        push @falls, falls($before{$zone}, $read) if $before{$zone};
        $before{$zone} = $read;
    }
}
# kill all workers once more, with open requests in all of them
push @slow, map { slow_request() } 1 .. 24;
sleep 0.3;
$killed += kill KILL => $t->worker;
ok(wait_until(10, sub { $t->workers == $workers }), 'as many workers as ever are there in the end');
my %serves = map { eval { $t->get('/', port => 'each', timeout => 5)->{body} } || 'none' => 1 } 1 .. 100;
is_deeply([ sort { $a <=> $b } keys %serves ], [ $t->workers ], 'and each of them serves');
$t->write_file($stop, '');
my @results = map { $_->result } @clients;

is_deeply(\@silent, [], 'the status answers after every kill');
is_deeply([ @falls[0 .. ($#falls > 9 ? 9 : $#falls)] ], [], 'no counter falls, and no account goes');
is(sum(map { $_->{hung} } @results), 0, 'no request hangs');
is(sum(map { $_->{wrong} } @results), 0, 'or is answered wrongly');

# A worker does one thing at a time: when it is killed, at most one request is between its answer and its log line, or
# between its log line and its account.
$t->quiet;
my (%lines, $lines_new, $lines);
open my $log, '<', $t->dir . '/brief.log' or die;
while (<$log>) {
    my ($pid, $host, $new) = /^(\d+) (\S+) (\S+)\n/ or next;
    $lines++;
    $lines{$host}++;
    $lines_new++ if $new ne '-';
}
close $log;
my %account = map { $_ => accounts($t, $_) } qw(hosts small storm);
my $requests = sub { my ($zone, @keys) = @_;
    return sum(map { $_->{requests} } @{ $account{$zone} }{ @keys ? @keys : keys %{ $account{$zone} } }) };
my $counted = $requests->('hosts', @hosts);
my $complete = sum(map { values %{ $_->{complete} } } @results);
is(scalar(grep { $account{hosts}{$_}{requests} > ($lines{$_} || 0) } @hosts), 0,
    'no request is counted that has no log line');
cmp_ok($lines - $counted, '<=', $killed, 'and at most one per kill has a line and is not counted');
cmp_ok($complete - $counted, '<=', $killed, 'or was answered and is not counted');
for my $zone (qw(small storm)) {
    my $sum = $requests->($zone);
    cmp_ok($sum, '<=', $lines_new, "zone $zone: nothing is counted twice");
    cmp_ok($lines_new - $sum, '<=', $killed, "zone $zone: at most one per kill is lost");
    my $keys = grep { $_ ne '*' } keys %{ $account{$zone} };
    is(scalar(grep { $_ ne '*' && !/^\d\.\d+$/ } keys %{ $account{$zone} }), 0, "zone $zone: no key is broken");
    is(scalar(grep { $_ ne '*' && $account{$zone}{$_}{requests} > 1 } keys %{ $account{$zone} }), 0,
        "zone $zone: nor has two requests");
    my $shown = $t->status("zone=$zone&key=*")->{zones}{$zone};
    is($shown->{accounts}, $keys, "zone $zone: every account is shown");
    cmp_ok($shown->{overflowed}, '>', 0, "zone $zone: was filled up");
    # a kill between acquiring an account's place and publishing it loses that place; each living worker may hold one
    cmp_ok($shown->{capacity} - $keys, '<=', $killed + $workers, "zone $zone: a kill costs one place at most");
    figure("zone $zone: accounts made, of", "$keys of $shown->{capacity}");
}
push @falls, falls($before{$_}, $account{$_}) for keys %before;
is(scalar(@falls), 0, 'all accounts that were seen are there in the end');
my @torn = grep { my $a = $account{hosts}{$_};
    abs($a->{requests} - sum(@$a{qw(1xx 2xx 3xx 4xx 5xx)})) > $killed } @hosts;
is_deeply(\@torn, [], 'responses by class are the requests');

# Requests in flight
my $open = sub {
    my $open = 0;
    for my $connection (@slow) {
        $open++ unless $connection->{gone} ||= do {
            my $got;
            1 while $got = $connection->fill(0);
            $connection->{buffer} = '';
            defined $got && $got == 0 || !defined $got && $!{ECONNRESET};
        };
    }
    return $open;
};
# kills may have closed every connection so far: these are of living workers
my $opened = 8;
push @slow, map { slow_request() } 1 .. $opened;
my ($still, $in_flight);
my $agree = wait_until(10, sub {
    $still = $open->();
    $in_flight = accounts($t, 'hosts')->{'slow.test'}{in_flight};
    return $still >= $opened && $in_flight == $still;
});
ok($agree, 'in flight are the open requests of living workers') or diag("$in_flight in flight, $still open");
is(sum(map { accounts($t, 'hosts')->{$_}{in_flight} } @hosts), 0, 'nothing else is');
$_->close for @slow;
ok(wait_until(10, sub { accounts($t, 'hosts')->{'slow.test'}{in_flight} == 0 }), 'and nothing in the end');

$t->get('/a.txt', host => 'after.test');
is($t->account_with('hosts', 'after.test', 1)->{requests}, 1, 'a new account can be made');

figure('workers killed', $killed);
figure('requests answered completely', $complete);
figure('requests cut off, or closed without an answer',
    sum(map { ($_->{cut}) } @results) . ', ' . sum(map { $_->{unanswered} || 0 } @results));
figure('log lines', $lines);
figure('log lines without a count (at most one per kill)', $lines - $counted);
figure('counters that fell, accounts that went', scalar @falls);
figure('slowest answer to a client, ms', sprintf '%.0f', 1000 * (sort { $b <=> $a } map { $_->{slowest} } @results)[0]);
figure('slowest status answer after a kill, ms', sprintf '%.0f', 1000 * $slowest);
figure('requests open in the end, shown in flight', "$still, $in_flight");

$t->done(query => 'zone=hosts');
