# A million invented keys: a client with invented Host values against a zone keyed by $host.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Torture;
use Time::HiRes qw(sleep time);

my ($keys, $workers, $clients, $batch) = (1_000_000, 2, 4, 100);
my @ordinary = map { "customer-$_.example" } 1 .. 20;

my $t = Test::RequestCpu->new;
$t->start(main => "worker_processes $workers;", log => 0, http => <<"EOC");
    request_cpu_zone \$host zone=hosts:8m;
    request_cpu zone=hosts;
    keepalive_requests 10000000;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 200 "plain\\n"; }
    }
    server {
        listen 127.0.0.1:{{port:low}};
        request_cpu off;
        location = /low { request_cpu_status detail=low; }
    }
EOC

sub text { return "GET / HTTP/1.1\r\nHost: $_[0]\r\n\r\n" }

# Kilobytes of all workers, by kind.
sub memory {
    my %sum;
    for my $pid ($t->workers) {
        my $status = $t->slurp("/proc/$pid/status");
        $sum{$_} += $status =~ /^$_:\s+(\d+) kB/m ? $1 : 0 for qw(VmRSS RssAnon RssShmem);
    }
    return %sum;
}

my $connection = $t->connect('http');
my $length = 0;
for my $host (@ordinary) {
    my $answer = $connection->send(text($host)) && $connection->response;
    $length = length($answer->{raw}) + length $answer->{body};
}
$connection->close;
is($t->account_with('hosts', $ordinary[-1], 1)->{requests}, 1, 'twenty ordinary keys are there');

# Sends batches, each with one request of an ordinary key. Returns the number of requests that were answered with 200.
sub flood {
    my ($batches) = @_;
    my ($connection, $fine) = ($t->connect('http', timeout => 60), 0);
    my $answer = "HTTP/1.1 200 OK\r\n";
    for my $n (1 .. $batches) {
        my $text = text($ordinary[ $n % @ordinary ]);
        $text .= text(sprintf '%08x%08x.example', rand 2**32, rand 2**32) for 2 .. $batch;
        $connection->send($text) or last;
        my $got = $connection->read_bytes($batch * $length);
        last unless defined $got;
        $fine += () = $got =~ /$answer/g;
    }
    return $fine;
}

# After a first, small flood, buffers have been allocated.
my $began = time;
my @warm = map { detached(sub { srand; flood(20) }) } 1 .. $clients;
my $fine = sum(map { $_->result } @warm);
my %before = memory();
my ($start, $batches) = (time, $keys / $batch / $clients);
my @clients = map { detached(sub { srand; flood($batches) }) } 1 .. $clients;
$fine += sum(map { $_->result } @clients);
my $took = time - $start;
my %after = memory();

my $sent = @ordinary + $clients * $batch * (20 + $batches);
is(@ordinary + $fine, $sent, 'no request fails');
$t->quiet;
my $account = accounts($t, 'hosts');
my $zone = $t->status('zone=hosts&key=*')->{zones}{hosts};
is(sum(map { $_->{requests} } values %$account), $sent, 'every request is counted');
is($zone->{accounts}, $zone->{capacity}, 'the zone is full');
is($zone->{keys}{'*'}{requests}, $zone->{overflowed}, 'requests without room are in the overflow account');
my $each = 1 + $clients * (20 + $batches) / @ordinary;
is_deeply([ map { $account->{$_}{requests} } @ordinary ], [ ($each) x @ordinary ],
    'ordinary keys are counted on, to the request');
cmp_ok($zone->{used_bytes}, '<=', $zone->{size_bytes}, 'the zone keeps its size');
cmp_ok($after{RssAnon} - $before{RssAnon}, '<=', 1024 * $workers, 'workers keep theirs');
# each worker maps the zone and the memory of the worker totals
cmp_ok($after{RssShmem}, '<=', $workers * ($zone->{size_bytes} / 1024 + 1024),
    'they share only the zone and the worker totals');

# The warning is written at most once a minute.
sub warned { my %warned; $warned{$_}++ for $t->error_log =~ /\[warn\] (\d+)#\d+: .*"hosts" is full/g; return \%warned }
my $first = warned();
cmp_ok(scalar keys %$first, '>=', 1, 'a full zone is warned of');
is_deeply([ grep { $first->{$_} > 1 + (time - $began) / 60 } keys %$first ], [],
    'not more often than once a minute by each worker');
sleep 0.1 while time < $began + 61;
my @more = map { detached(sub { srand; flood(20) }) } 1 .. $clients;
is(sum(map { $_->result } @more), $clients * $batch * 20, 'requests of the next minute do not fail either');
my $second = warned();
my $minutes = 1 + (time - $began) / 60;
cmp_ok(sum(values %$second), '>', sum(values %$first), 'which is warned of again');
is_deeply([ grep { $second->{$_} > $minutes } keys %$second ], [], 'as often');

figure('requests with a random Host, seconds', "$keys, " . sprintf '%.0f', $took);
figure('failed', $sent - @ordinary - $fine);
figure('accounts made, requests in the account *', "$zone->{accounts}, $zone->{keys}{'*'}{requests}");
figure('requests lost, of all and of twenty ordinary keys',
    ($sent - sum(map { $_->{requests} } values %$account)) . ', '
    . ($each * @ordinary - sum(map { $account->{$_}{requests} } @ordinary)));
figure("memory of $workers workers before and after, private, KB", "$before{RssAnon}, $after{RssAnon}");
figure("memory of $workers workers before and after, shared, KB", "$before{RssShmem}, $after{RssShmem}");
figure("warnings by $workers workers in the first minute, in the second",
    sum(values %$first) . ', ' . (sum(values %$second) - sum(values %$first)));

$t->done(query => 'zone=hosts&key=*');
