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
within($line->{ns}, $used, 0.9, 1.001, 'a request is charged what the process used');
is($line->{pid}, $t->master, 'in the only process');
is($t->account_with('hosts', 'one.test', 1)->{requests}, 1, 'and counted');

my ($worker, @more) = @{ $t->status->{workers} };
is($worker->{pid}, $t->master, 'the books are those of the process');
is(scalar(@more), 0, 'and only those');
# What it did before the hook went in is reading the configuration.
$t->check_books(start_ms => 100);

# A reload happens within the process, under open connections
my $connection = $t->connect('http');
$connection->get('/a.txt', host => 'one.test');
kill HUP => $t->master;
ok(wait_until(5, sub { $t->error_log =~ /reconfiguring/ }), 'a reload');
ok(wait_until(5, sub { my $answer = eval { $t->get('/a.txt', host => 'two.test') }; $answer && $answer->{status} == 200 }), 'requests are served');
$connection->close;
my @lines = $t->logged(3);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), scalar @lines, 'and measured');
ok($t->account_with('hosts', 'two.test', 1)->{requests} >= 1, 'and counted');
ok($t->account('hosts', 'one.test')->{requests} >= 1, 'accounts are kept');

$t->done(start_ms => 100);
