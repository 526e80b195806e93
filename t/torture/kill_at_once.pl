# Several workers are killed at the same time while requests are in flight in several zones. Their replacements are
# killed while they start, when they reap slots of dead workers. Afterwards nothing is in flight, and active time
# stands still.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Torture;
use Time::HiRes qw(sleep time);

my ($rounds, $workers, $slow, $accounts) = ($ENV{TORTURE_ROUNDS} || 300, 3, 12, 4_000);
my @zones = qw(hosts large larger changes);

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('slow.txt', 'x' x 4_000_000);
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);

# Reaping takes longer with more accounts.
sub configuration {
    my ($size) = @_;
    return <<"EOC";
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu_zone \$host\$arg_new zone=large:16m;
    request_cpu_zone \$host\$arg_new zone=larger:32m;
    request_cpu_zone \$host zone=changes:$size;
    request_cpu zone=hosts zone=large zone=larger zone=changes;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /slow.txt { limit_rate 2k; }
    }
EOC
}
$t->start(main => "worker_processes $workers;", log => 0, http => configuration('1m'));

my $filler = $t->connect('http');
for my $n (1 .. $accounts) {
    $filler->request("/a.txt?new=$n", host => 'new.test');
    $filler->response;
}
$filler->close;

sub slow_request {
    my $connection = eval { $t->connect('http') } or return;
    $connection->request('/slow.txt', host => 'flight.test');
    return $connection;
}

# { zone => [ in flight, active time ] }
sub flights {
    my %seen;
    for my $zone (@zones) {
        my $account = eval { $t->status("zone=$zone&key=flight.test") } || {};
        $account = ($account->{zones} || {})->{$zone}{keys}{'flight.test'} || next;
        $seen{$zone} = [ @$account{qw(in_flight active_ms)} ];
    }
    return \%seen;
}

sub all_of { my ($pid) = @_; return $t->slurp("/proc/$pid/task/$pid/children") =~ /(\d+)/g }

my (@stay, @grow);
my ($killed, $beginners, $old, $longest) = (0, 0, 0, 0);
my %seen;
for my $round (1 .. $rounds) {
    my @open = map { slow_request() } 1 .. $slow;
    # workers know at the end of the first turn that the requests are in flight
    sleep 0.01;
    my $is_reload = $round % 8 == 0;
    if ($is_reload) {
        # the old workers continue with their requests; one of their tables has another size now
        my @before = $t->workers;
        $t->reload(main => "worker_processes $workers;", log => 0, http => configuration($round % 16 ? '1m' : '960k'));
        push @open, map { slow_request() } 1 .. $slow;
        my %before = map { $_ => 1 } @before;
        $old += grep { $before{$_} } all_of($t->master);
    }
    my @victims = all_of($t->master);
    @seen{@victims} = ();
    # all workers, or all but one
    splice @victims, rand @victims, 1 if !$is_reload && $round % 3 == 0;
    $killed += kill KILL => @victims;
    # new workers, as they start. Mostly only the first one: if it has begun to reap, no other death starts the
    # reaping again.
    my ($until, $left) = (time + 0.05, $round % 4 ? 1 : 2 + int rand 4);
    while ($left && time < $until) {
        for my $pid (grep { !exists $seen{$_} } all_of($t->master)) {
            $seen{$pid} = undef;
            next unless $left;
            my $wait = time + rand 0.003;
            1 while time < $wait;
            my $is_killed = kill KILL => $pid;
            $beginners += $is_killed;
            $left--;
        }
    }
    $_->close for @open;
    my $begin = time;
    my $flights;
    my $is_over = wait_until(5, sub {
        $flights = flights();
        return keys %$flights == @zones && !grep { $_->[0] } values %$flights;
    });
    my $took = time - $begin;
    $longest = $took if $took > $longest;
    if (!$is_over) {
        push @stay, "round $round: " . join ', ', map { "$_ $flights->{$_}[0]" } sort keys %$flights;
        next;
    }
    next if $round % 4;
    sleep 0.2;
    my $later = flights();
    push @grow, map { "round $round: $_ $flights->{$_}[1] $later->{$_}[1]" }
        grep { $later->{$_}[1] != $flights->{$_}[1] } sort keys %$later;
}

is_deeply(\@stay, [], 'nothing stays in flight') or diag(scalar(@stay) . " of $rounds rounds");
is_deeply(\@grow, [], 'and active time stands still');
ok(wait_until(10, sub { $t->workers == $workers }), 'as many workers as ever are there in the end');
$t->get('/a.txt', host => 'after.test');
is($t->account_with('hosts', 'after.test', 1)->{requests}, 1, 'and they count');
is_deeply([ sort { $a <=> $b } map { $_->{pid} } @{ $t->status('zone=hosts')->{workers} } ], [ $t->workers ],
    'and each of them is shown');

figure('workers killed at once, those of an older configuration', "$killed, $old");
figure('workers killed while they began', $beginners);
figure('rounds, those in which something stayed in flight', "$rounds, " . scalar @stay);
figure('longest time until nothing was in flight, ms', sprintf '%.0f', 1000 * $longest);

# a worker's first look at large tables comes before its measurement
$t->done(query => 'zone=hosts', start_ms => 30);
