# A worker that runs out of connections closes keep-alive ones, in the middle of another connection's handler call.
# Their entries in the connection table are used again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->start(events => 'worker_connections 64;', http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
    }
EOC

my (@kept, $fine);
my $used = $t->measured(sub {
    for my $n (1 .. 300) {
        my $connection = $t->connect('http');
        $fine++ if $connection->get('/a.txt', host => $n % 2 ? 'odd.test' : 'even.test')->{status} == 200;
        push @kept, $connection;
    }
});
is($fine, 300, 'three hundred connections on sixty-four places are served');
my @lines = $t->logged(300);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 300, 'and charged');
like($t->error_log, qr/worker_connections are not enough, reusing connections|reusing/, 'connections were reused');
my %account = map { $_ => $t->account_with('hosts', $_, 150) } qw(odd.test even.test);
is($account{$_}{requests}, 150, "$_ has its requests") for sort keys %account;
is($account{$_}{in_flight}, 0, "$_: nothing is in flight") for sort keys %account;
my $logged = sum(map { $_->{ns} } @lines);
my $counted = sum(map { $_->{cpu_ns} } values %account);
ok($logged <= $counted && $counted <= $used * 1.001, 'and CPU is between the logged and the used CPU')
    or diag("$logged, $counted, $used");
within($account{'odd.test'}{cpu_ns}, $account{'even.test'}{cpu_ns}, 0.5, 2, 'both cost about the same');
$_->close for @kept;

# Many connections open and close, most of them without a request: an entry keeps nothing of its previous connection
my $before = sum(map { $_->{no_request_ns} } @{ $t->status->{workers} });
my ($silent_used, $silent) = $t->worked(sub { for (1 .. 400) { my $c = $t->connect('http'); $c->close } });
my $after;
wait_until(60, sub { $after = sum(map { $_->{no_request_ns} } @{ $t->status->{workers} }); $after > $before });
cmp_ok($after - $before, '<=', $silent_used, 'silent connections cost no more than the thread used');
within($after - $before, $silent, 0.7, 1.3, 'and are connections without a request');
is($t->account('hosts', 'odd.test')->{requests}, 150, 'and no requests');
$t->quiet;
is(sum(map { $_->{pending_ns} } @{ $t->status->{workers} }) < $used / 20, 1,
    'nothing stays pending but the status page\'s own connection');

$t->done;
