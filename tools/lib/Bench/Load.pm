# One turn of load for a server of scripts/bench, in a closed loop: h2load, or wrk for keys by lot.
package Bench::Load;

use strict;
use warnings;
use Bench::Processes qw(%option $dir @processors @running cpu_ns run stolen);
use Exporter qw(import);
use List::Util qw(max min);
use POSIX ();
use Time::HiRes qw(sleep time);
use Tool qw(lines spew);

our @EXPORT_OK = qw(calibrate cpu_of h2load load url);

# As many requests as take the wanted CPU time: time on the wall depends on what else the machine does.
sub calibrate {
    my ($case, $server) = @_;
    my $requests = 2 * $case->{connections};
    for (1 .. 4) {
        my $ns = load($case, $server, $requests)->{ns};
        my $wanted = int(1e9 * $option{seconds} * $case->{turn} / max($ns, 1));
        $requests = max($case->{connections}, min(50 * $requests, $wanted));
    }
    return $requests;
}

# One turn of a server: its worker's CPU time per request, in nanoseconds.
sub load {
    my ($case, $server, $requests) = @_;
    return cpu_of($server, sub { $case->{keys} ? wrk($case, $server) : h2load($case, $server, $requests) });
}

# What a load, which tells how many requests were answered in how many seconds, costs a server's worker.
sub cpu_of {
    my ($server, $load) = @_;
    my $worker = $server->{worker};
    my ($begin, $stolen) = (time, stolen());
    my ($cpu, $waited) = cpu_ns($worker);
    my ($done, $seconds) = $load->();
    # connections are closed after the last answer
    my ($cpu_then, $waited_then) = cpu_ns($worker);
    for (my $last = 0; $last != $cpu_then;) {
        $last = $cpu_then;
        sleep 0.002;
        ($cpu_then, $waited_then) = cpu_ns($worker);
    }
    my $wall = time - $begin;
    $server->{asked} += $done;
    return {
        ns => ($cpu_then - $cpu) / $done, seconds => $seconds, busy => ($cpu_then - $cpu) / 1e9 / $seconds,
        waited => ($waited_then - $waited) / 1e9 / $wall, stolen => (stolen() - $stolen) / $wall,
    };
}

# Requests that were answered, and seconds.
sub h2load {
    my ($case, $server, $requests) = @_;
    my @arguments = (
        "-t1 -c$case->{connections} -n$requests", $case->{streams} ? "-m$case->{streams}" : '--h1',
        $case->{close} ? "-H 'Connection: close'" : (), $case->{gzip} ? "-H 'Accept-Encoding: gzip'" : (),
        url($case, $server),
    );
    my $out = `taskset -c $processors[1] h2load @arguments 2>&1`;
    my ($ok) = $out =~ /status codes: (\d+) 2xx/;
    my ($seconds, $unit) = $out =~ /finished in ([\d.]+)(us|ms|s)/;
    defined $unit && defined $ok && $ok == $requests or die "bench: h2load failed with @arguments:\n$out\n";
    return ($ok, $seconds * { us => 1e-6, ms => 1e-3, s => 1 }->{$unit});
}

# h2load asks for its addresses one after the other; wrk can draw them by lot. It takes whole seconds only, and ends
# by INT.
sub wrk {
    my ($case, $server) = @_;
    spew("$dir/keys.lua", <<"LUA") unless -f "$dir/keys.lua";
local requests = {}
function init()
    math.randomseed(1)
    for n = 1, $case->{keys} do requests[n] = wrk.format(nil, "$case->{path}?k=key-" .. n .. ".example.com") end
end
function request() return requests[math.random($case->{keys})] end
LUA
    my ($idle) = cpu_ns($server->{worker});
    my @wrk = ('wrk', '-t1', "-c$case->{connections}", '-d1h', '-s', "$dir/keys.lua", url($case, $server));
    my $pid = run($processors[1], "$dir/wrk.out", @wrk);
    # it makes its requests first, and heeds no signal before it has begun
    for (1 .. 1000) { last if (cpu_ns($server->{worker}))[0] > $idle + 1e6; sleep 0.002 }
    sleep $option{seconds} * $case->{turn};
    do { kill 'INT', $pid; sleep 0.005 } until waitpid $pid, POSIX::WNOHANG();
    @running = grep { $_ != $pid } @running;
    my $text = join '', lines("$dir/wrk.out");
    my ($requests, $seconds, $unit) = $text =~ /(\d+) requests in ([\d.]+)(us|ms|s)/;
    $unit && $requests && $text !~ /Non-2xx|Socket errors/ or die "bench: wrk failed:\n$text\n";
    return ($requests, $seconds * { us => 1e-6, ms => 1e-3, s => 1 }->{$unit});
}

sub url {
    my ($case, $server) = @_;
    my $port = $server->{port}{ $case->{tls} // 'plain' };
    return ($case->{tls} ? 'https' : 'http') . "://127.0.0.1:$port$case->{path}";
}

1;
