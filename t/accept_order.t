# Connections that became ready first are handled first: a request on a keep-alive connection that came before a new
# connection is read before the new one is accepted. If connections run out, accepting closes the oldest keep-alive
# connection (ngx_drain_connections), even if it has a request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep);

for my $module (0, 1) {
    my $name = $module ? 'with the module' : 'without';
    my $t = Test::RequestCpu->new(module => $module);
    $t->html('a.txt', "plain\n");
    my $cpu = $module ? "request_cpu_zone \$host zone=hosts:1m;\nrequest_cpu zone=hosts;" : '';
    $t->start(events => 'use epoll; worker_connections 40; multi_accept on;', http => <<"EOC");
    $cpu
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /burn { @{[ burn_rules(8) ]} return 200 "burnt"; }
    }
EOC
    # open connections until NGINX begins to close idle ones
    my @kept;
    while (@kept < 60 && $t->error_log !~ /reusing connections/) {
        push @kept, my $connection = $t->connect('http');
        $connection->get('/a.txt');
    }
    my ($oldest) = grep { !$_->closed_within(0.001) } @kept;
    my $busy = $kept[-1];
    $busy->request('/burn?x=' . burn_text(20));
    sleep 0.05;
    $oldest->request('/a.txt');
    sleep 0.02;
    # more new connections than there is room for
    my @new = map { my $c = $t->connect('http'); $c->request('/a.txt'); $c } 1 .. 8;
    is($busy->response->{status}, 200, "$name: a worker was busy");
    is($oldest->response->{status}, 200, "$name: a request that came meanwhile is answered");
    is(scalar(grep { $_->response->{status} == 200 } @new), 8, "$name: so are those on connections that came after it");
    $_->close for @kept, @new;
    $t->done(more => 1, no_totals => 1);
}

done_testing();
