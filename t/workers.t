# Several workers, with each way to share listening sockets, count in the same accounts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my %way = (
    'four workers' => [ 'worker_processes 4;', '', '' ],
    'multi_accept' => [ 'worker_processes 2;', 'multi_accept on;', '' ],
    'reuseport' => [ 'worker_processes 3;', '', ' reuseport' ],
    'multi_accept, accept_mutex and deferred' => [ 'worker_processes 2;', 'multi_accept on; accept_mutex on;',
        ' deferred' ],
);

for my $name (sort keys %way) {
    my ($main, $events, $listen) = @{ $way{$name} };
    my $t = Test::RequestCpu->new;
    $t->html('a.txt', "plain\n");
    $t->start(main => $main, events => $events, http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu_zone \$arg_k zone=keys:1m;
    request_cpu zone=hosts zone=keys;
    server {
        listen 127.0.0.1:{{port:http}}$listen;
        location / { }
        location = /burn { @{[ burn_rules(1) ]} return 200 "x"; }
    }
EOC
    my ($clients, $each) = (6, 60);
    my $used = $t->measured(sub {
        my @clients = map {
            my $client = $_;
            detached(sub {
                my $fine = 0;
                for my $n (1 .. $each) {
                    my $uri = '/a.txt?k=' . $n % 20;
                    $fine++ if $t->get($uri, host => 'shared.test')->{status} == 200;
                }
                return $fine;
            });
        } 1 .. $clients;
        is(sum(map { $_->result } @clients), $clients * $each, "$name: all requests are answered");
        $t->logged($clients * $each);
    });
    my @lines = $t->logged($clients * $each);
    my $account = $t->account_with('hosts', 'shared.test', $clients * $each);
    is($account->{requests}, $clients * $each, "$name: the account has them all");
    my $logged = sum(map { $_->{ns} } @lines);
    ok($account->{cpu_ns} >= $logged && $account->{cpu_ns} <= $used,
        "$name: and CPU between what was logged and what was used")
        or diag("$logged logged, $account->{cpu_ns} counted, $used used");
    my $keys = $t->status('zone=keys')->{zones}{keys}{keys};
    is_deeply({ map { $_ => $keys->{$_}{requests} } keys %$keys }, { map { $_ => $clients * $each / 20 } 0 .. 19 },
        "$name: a key that several workers see for the first time gets one account");

    # Connections that arrive together, in one handler call of the listening socket
    $t->clear_log;
    my $busy = $t->connect('http');
    my @burst = map { $t->connect('http') } 1 .. 30;
    $busy->request('/burn?x=' . burn_text(20), host => 'dear.test', close => 1);
    $_->request('/a.txt', host => 'burst.test', close => 1) for @burst;
    is(scalar(grep { $_->response->{status} == 200 } $busy, @burst), 31, "$name: a burst of connections is answered");
    @lines = $t->logged(31);
    my ($dear) = grep { $_->{host} eq 'dear.test' } @lines;
    is(scalar(grep { $_->{host} eq 'burst.test' && $_->{ns} * 5 < $dear->{ns} } @lines), 30,
        "$name: nobody pays for his neighbour");

    my $workers = $t->check_totals(name => $name);
    my %pid = map { $_->{pid} => 1 } @$workers;
    is(scalar(grep { $pid{$_} } $t->workers), scalar($t->workers), "$name: every worker has its books");
    $t->done(no_totals => 1, more => 1);
}

done_testing();
