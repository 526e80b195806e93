# A worker that ends behaves as without the module: idle connections close at once, running requests are served to
# their end or to worker_shutdown_timeout, and then the module does not delay the end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep time);

sub server {
    my ($module, $main) = @_;
    my $t = Test::RequestCpu->new(module => $module);
    $t->html('a.txt', "plain\n");
    $t->html('long.txt', 'x' x 24_000);
    my $cpu = $module ? "request_cpu_zone \$host zone=hosts:1m;\nrequest_cpu zone=hosts;" : '';
    return $t->start(main => "worker_processes 1; $main", http => <<"EOC");
    $cpu
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /half { alias {{dir}}/html/long.txt; limit_rate 16k; }
        location = /endless { alias {{dir}}/html/long.txt; limit_rate 1k; }
    }
EOC
}

# The events after a signal to the master, in order, until the worker has ended; and the time that they take.
sub order {
    my ($t, $signal, $uri) = @_;
    my %c = (kept => $t->connect('http'), served => $t->connect('http'));
    $c{kept}->get('/a.txt');
    $c{served}->request($uri, host => 'served.test', close => 1);
    $c{served}->read_until(qr/x/);
    # if the module had a timer of its own, the timer would run by now
    sleep 0.05;
    my $worker = $t->worker;
    my ($start, @order, %seen) = (time);
    kill $signal => $t->master;
    while (time < $start + 20) {
        for my $name (sort keys %c) {
            next if $seen{$name};
            my $got = $c{$name}->fill(0);
            if (defined $got && $got == 0) { $seen{$name} = push @order, "$name closed" }
            elsif ($name eq 'served' && !$seen{end} && ($c{served}{buffer} =~ tr/x//) >= 23_999) {
                $seen{end} = push @order, 'served to its end';
            }
        }
        last if !$t->_is_nginx($worker) && $seen{kept} && $seen{served};
        sleep 0.002;
    }
    push @order, 'the worker is gone' unless $t->_is_nginx($worker);
    $_->close for values %c;
    return { order => join(', ', @order), took => time - $start };
}

for my $case (
    [ 'QUIT', '', QUIT => '/half', 'kept closed, served to its end, served closed, the worker is gone' ],
    [ 'QUIT and worker_shutdown_timeout', 'worker_shutdown_timeout 300ms;', QUIT => '/endless',
        'kept closed, served closed, the worker is gone' ],
    [ 'a reload and worker_shutdown_timeout', 'worker_shutdown_timeout 300ms;', HUP => '/endless',
        'kept closed, served closed, the worker is gone' ],
) {
    my ($name, $main, $signal, $uri, $expected) = @$case;
    my %took;
    # a busy machine may be slow: the minimum of each counts
    for my $round (1 .. 8) {
        for my $module (0, 1) {
            my $t = server($module, $main);
            my $seen = order($t, $signal, $uri);
            SKIP: {
                $t->skip_on_fork('shutdown: idle connections', 1) if $name eq 'QUIT';
                is($seen->{order}, $expected, "$name: " . ($module ? 'with the module' : 'without'));
            }
            $took{$module} = $seen->{took} if !$took{$module} || $seen->{took} < $took{$module};
            if ($module && $signal eq 'HUP') {
                is($t->account_with('hosts', 'served.test', 1)->{requests}, 1, "$name: the request is counted");
                is($t->account('hosts', 'served.test')->{in_flight}, 0, "$name: and not in flight");
            }
            $t->done(more => 1, no_totals => 1);
        }
        last if $took{1} < 1.5 * $took{0};
    }
    cmp_ok($took{1}, '<', 1.5 * $took{0}, "$name: takes no longer with the module");
}

done_testing();
