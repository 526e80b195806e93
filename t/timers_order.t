# NGINX handles I/O that is ready before timers that have expired: an answer that arrived while the worker was busy
# does not time out. This must be the same with and without the module.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep time);

my $timeout = 0.8;
my $letters = 15;
for my $module (0, 1) {
    my $name = $module ? 'with the module' : 'without the module';
    my $t = Test::RequestCpu->new(module => $module);
    my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
        my ($connection, $request) = @_;
        sleep 0.15;
        return $connection->answer("in time\n");
    });
    my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port('silent'), Listen => 5,
        ReuseAddr => 1)
        or die "listen: $@\n";
    my $cpu = $module ? "request_cpu_zone \$host zone=hosts:1m;\nrequest_cpu zone=hosts;" : '';
    $t->start(http => <<"EOC");
    $cpu
    server {
        listen 127.0.0.1:{{port:http}};
        location = /upstream { proxy_pass http://127.0.0.1:{{port:upstream}};
            proxy_read_timeout @{[ $timeout * 1000 ]}ms; }
        location = /never { proxy_pass http://127.0.0.1:{{port:silent}}; proxy_read_timeout @{[ $timeout * 1000 ]}ms;
            proxy_connect_timeout @{[ $timeout * 1000 ]}ms; }
        location = /body { client_body_timeout @{[ $timeout * 1000 ]}ms; client_max_body_size 1m;
            proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_read_timeout 10s; }
        location = /burn { @{[ burn_rules(24) ]} return 200 "burnt"; }
    }
EOC

    # The burning time must be longer than the timeout on any machine: letters are added until it is.
    my $took = 0;
    while (1) {
        my $start = time;
        $t->get('/burn?x=' . burn_text($letters));
        $took = time - $start;
        last if $took >= 2 * $timeout || $letters >= 21;
        $letters++;
    }
    SKIP: {
        skip("$name: this machine burns too fast for the test", 3) if $took < 1.5 * $timeout;
        my (@status, @body_status, @busy);
        # On a busy machine, an answer may really be later than the timeout. A wrong order is wrong each time.
        for (1 .. 8) {
            my ($client, $burner) = ($t->connect('http'), $t->connect('http'));
            my $start = time;
            $client->request('/upstream', close => 1);
            sleep 0.05;
            $burner->request('/burn?x=' . burn_text($letters), close => 1);
            my $answer = $client->response;
            push @status, $answer->{status};
            $burner->response;
            push @busy, time - $start;
            $_->close for $client, $burner;

            # The same for a timeout of the client
            ($client, $burner) = ($t->connect('http'), $t->connect('http'));
            $client->send("POST /body HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n12345");
            sleep 0.05;
            $burner->request('/burn?x=' . burn_text($letters), close => 1);
            sleep 0.05;
            $client->send('67890');
            push @body_status, $client->response->{status};
            $burner->response;
            $_->close for $client, $burner;
            last if @busy >= 2 && !grep({ $_ < 1.2 * $timeout } @busy[ -2, -1 ])
                && !grep { $_ != 200 } @status[ -2, -1 ], @body_status[ -2, -1 ];
        }
        is_deeply([ @status[ -2, -1 ] ], [ (200) x 2 ],
            "$name: an upstream's answer that waited for the worker is an answer");
        is_deeply([ @body_status[ -2, -1 ] ], [ (200) x 2 ], "$name: so is a client's body");
    }

    # Timeouts still work
    is($t->get('/never')->{status}, 504, "$name: what does not arrive times out");
    $t->done(more => 1);
}

done_testing();
