# Connections are distributed to the workers as without the module: a busy worker leaves them to the other one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

# The part of the requests that the worker with fewer requests had.
sub least_part {
    my ($module, $events, $listen) = @_;
    my $t = Test::RequestCpu->new(module => $module);
    my $cpu = $module ? "request_cpu_zone \$host zone=hosts:1m;\nrequest_cpu zone=hosts;" : '';
    $t->start(main => 'worker_processes 2;', events => $events, http => <<"EOC");
    $cpu
    server {
        listen 127.0.0.1:{{port:http}}$listen;
        location / { @{[ burn_rules(1) ]} return 200 "burnt"; }
    }
EOC
    my ($clients, $requests) = (4, 15);
    my @clients = map {
        detached(sub { return scalar grep { $t->get('/?x=' . burn_text(17))->{status} == 200 } 1 .. $requests })
    } 1 .. $clients;
    is(sum(map { $_->result } @clients), $clients * $requests, 'all requests are answered');
    my %count;
    $count{ $_->{pid} }++ for $t->logged($clients * $requests);
    $t->done(more => 1, no_totals => 1);
    my ($least) = sort { $a <=> $b } map { $count{$_} || 0 } (keys %count, keys %count < 2 ? 'none' : ());
    return $least / ($clients * $requests);
}

for my $case (
    [ 'accept_mutex off', 'accept_mutex off;', '' ],
    [ 'accept_mutex on', 'accept_mutex on; accept_mutex_delay 5ms;', '' ],
    [ 'reuseport', '', ' reuseport' ],
) {
    my ($name, $events, $listen) = @$case;
    # on a busy machine, one of the workers may not get its processor
    my %part;
    for (1 .. 6) {
        %part = map { $_ => least_part($_, $events, $listen) } 0, 1;
        note("$name: $part{0} without the module, $part{1} with it");
        last if $part{1} >= $part{0} / 2;
    }
    cmp_ok($part{1}, '>=', $part{0} / 2,
        "$name: the worker with less to do has at least half of the part that it has without the module");
}

done_testing();
