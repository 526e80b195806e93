# NGINX in the foreground with sockets that a supervisor has opened (NGINX="3;"). No other process counts in its
# accounts, so the last second is billed or waived like all others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC_RAW sleep);

my $t = Test::RequestCpu->new;
my $log = $t->dir . '/traffic.log';

# Opens the socket, and executes the rest of the command in the same process.
my $supervisor = <<'EOC';
    use Socket;
    my $port = shift;
    $^F = 100;
    socket my $socket, PF_INET, SOCK_STREAM, 0 or die "socket: $!";
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $socket, sockaddr_in($port, inet_aton("127.0.0.1")) or die "bind: $!";
    listen $socket, 64 or die "listen: $!";
    # Angie calls the variable ANGIE
    $ENV{NGINX} = $ENV{ANGIE} = fileno($socket) . ";";
    exec @ARGV or die "exec: $!";
EOC

sub start {
    $t->start(before => [ $^X, '-e', $supervisor, $t->port('http') ], http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    request_cpu_log traffic.log zone=hosts interval=1s;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { @{[ burn_rules(1) ]} return 200 "burnt\\n"; }
    }
EOC
}

for my $round (1 .. 3) {
    unlink $log;
    start();
    like($t->error_log, qr/using inherited sockets/, 'NGINX has taken the socket over') if $round == 1;
    # wait for the middle of a second of the clock that divides time into seconds
    my $until = 1 + int clock_gettime(CLOCK_MONOTONIC_RAW);
    while (clock_gettime(CLOCK_MONOTONIC_RAW) < $until + 0.4) { $t->get('/?x=' . burn_text(15), host => 'burnt.test') }
    is($t->stop, 0, 'it ends by itself');
    my ($cpu_ns, $billable_ns, $waived_ns, $lines) = (0, 0, 0, 0);
    for my $line (grep { /"burnt\.test"/ } split /\n/, $t->slurp($log)) {
        my %line = %{ JSON::PP::decode_json($line) };
        $lines++;
        $cpu_ns += $line{cpu_ns};
        $billable_ns += $line{billable_cpu_ns};
        $waived_ns += $line{waived_cpu_ns};
    }
    cmp_ok($lines, '>', 0, 'there are lines');
    is($cpu_ns - $billable_ns - $waived_ns, 0, "all CPU is billable or waived, $cpu_ns ns");
}
$t->done;
