# One process that is master and worker, as for debugging.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->start(single_process => 1, http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /burn { @{[ burn_rules(2) ]} return 200 "x"; }
    }
EOC

is(scalar(keys %{ $t->processes }), 0, 'there is no worker process');
my $used = $t->measured(sub { $t->get('/burn?x=' . burn_text(20), host => 'one.test'); $t->logged(1) });
my ($line) = $t->logged(1);
within($line->{ns}, $used, 0.9, 1.001, 'a request is charged the CPU of the process');
is($line->{pid}, $t->master, 'in the only process');
is($t->account_with('hosts', 'one.test', 1)->{requests}, 1, 'and counted');

my ($worker, @more) = @{ $t->status->{workers} };
is($worker->{pid}, $t->master, 'the totals are those of the process');
is(scalar(@more), 0, 'and only those');
# Before the event-loop hook was set, the process has read the configuration.
$t->check_totals(start_ms => 100);

# In this mode, NGINX itself accepts no connections after a reload, with or without the module. It continues to serve
# open connections.
my $connection = $t->connect('http');
$connection->get('/a.txt', host => 'one.test');
SKIP: {
    $t->skip_on_fork('single_process: reload', 2);
    # With another size, so that the old zone is freed while the process has its accounts at hand.
    $t->_write_config(%{ $t->{part} }, http => $t->{part}{http} =~ s/hosts:1m/hosts:2m/r);
    kill HUP => $t->master;
    ok(wait_until(60, sub { $t->error_log =~ /\] \d+#\d+: reconfiguring/ }), 'a reload');
    is($connection->get('/a.txt', host => 'one.test')->{status}, 200, 'leaves an open connection as it is');
}
$connection->close;

$t->done(no_totals => 1);
