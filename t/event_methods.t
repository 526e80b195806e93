# Each event method of NGINX.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;

for my $method (qw(epoll poll select)) {
    my $t = Test::RequestCpu->new;
    my ($status, $output) = $t->try_config(events => "use $method;", http => '');
    SKIP: {
        skip("NGINX was built without $method", 1) if $output =~ /invalid event type "$method"/;
        is($status, 0, "$method is there") or diag($output);
        $t->html('a.txt', "plain\n");
        $t->html('slow.txt', 'x' x 30_000);
        my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub { $_[0]->answer("answer\n") });
        $t->start(events => "use $method;", http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /burn { @{[ burn_rules(1) ]} return 200 "x"; }
        location = /slow.txt { limit_rate 30k; }
        location = /upstream { proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
EOC
        like($t->error_log, qr/using the "$method" event method/, "$method is used");
        my $used = $t->measured(sub { $t->get('/burn?x=' . burn_text(20), host => 'dear.test'); $t->logged(1) });
        my ($line) = $t->logged(1);
        within($line->{ns}, $used, 0.9, 1.001, "$method: a request is charged what the worker used");
        my @clients = map { $t->connect('http') } 1 .. 12;
        $_->request('/a.txt', host => 'cheap.test', close => 1) for @clients[0 .. 5];
        $_->request('/upstream', host => 'cheap.test', close => 1) for @clients[6 .. 10];
        $clients[11]->request('/slow.txt', host => 'cheap.test', close => 1);
        is(scalar(grep { $_->response->{status} == 200 } @clients), 12,
            "$method: connections, upstreams and timers work");
        my @lines = $t->logged(13);
        is(scalar(grep { $_->{host} eq 'cheap.test' && $_->{ns} * 5 < $line->{ns} } @lines), 12,
            "$method: and are charged for themselves");
        is($t->account_with('hosts', 'cheap.test', 12)->{requests}, 12, "$method: and counted");
        $t->done(more => 1);
    }
}

done_testing();
