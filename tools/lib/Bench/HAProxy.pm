# HAProxy for scripts/bench peers: its configuration, its process, and what it knows about its CPU time.
package Bench::HAProxy;

use strict;
use warnings;
use Bench::Processes qw($dir @processors run urgent);
use Exporter qw(import);
use IO::Socket::INET;
use IO::Socket::UNIX;
use List::Util qw(sum0);
use POSIX ();
use Time::HiRes qw(sleep);
use Tool qw($root fail free_port has_program lines slurp spew);

our @EXPORT_OK = qw(haproxy_version need_haproxy owned start_haproxy);

# Installs HAProxy, or says how. Where systemd runs, the package would start it as a service, so that is left to the
# user.
sub need_haproxy {
    # where Debian has it, and the PATH of users does not look
    $ENV{PATH} .= ':/usr/sbin' unless has_program('haproxy');
    return if has_program('haproxy');
    my $how = 'haproxy is needed (package haproxy), and need not run as a service';
    fail("$how: apt-get install haproxy; systemctl disable --now haproxy") if -d '/run/systemd/system' || $> != 0;
    system('bash', '-c', '. "$1/scripts/lib.sh" && need_packages haproxy >&2', 'bash', $root) == 0
        && has_program('haproxy') or fail($how);
    return;
}

# Starts one, with profiling of tasks "on" or "off", in front of an origin. It answers small requests itself with the
# same body, and passes on those below /proxy/. With $logs, it writes the CPU time of each request.
sub start_haproxy {
    my ($name, $profiling, $origin, $logs) = @_;
    my $server = { name => $name, prefix => "$dir/$name", port => { map { $_ => free_port() } qw(plain ecdsa) } };
    mkdir $server->{prefix};
    spew("$server->{prefix}/ecdsa.pem", slurp("$dir/ecdsa.crt") . slurp("$dir/ecdsa.key"));
    spew("$server->{prefix}/haproxy.cfg", configuration($server, $profiling, $origin, $logs));
    my $pid = run($processors[0], output($server), 'haproxy', '-db', '-f', "$server->{prefix}/haproxy.cfg");
    @$server{qw(pid worker)} = ($pid, $pid);
    for (1 .. 500) {
        waitpid($pid, POSIX::WNOHANG()) and last;
        if (IO::Socket::INET->new(PeerAddr => "127.0.0.1:$server->{port}{plain}")) { urgent($pid); return $server }
        sleep 0.01;
    }
    die "bench: HAProxy did not start:\n", lines(output($server));
}

sub output { return "$_[0]{prefix}/output" }

# One thread, like the one worker of NGINX. Nothing is logged in the comparison of CPU times.
sub configuration {
    my ($server, $profiling, $origin, $logs) = @_;
    my ($prefix, $port) = @$server{qw(prefix port)};
    my $log_to = $logs ? 'log stdout format raw local0' : '';
    my $log_format = $logs ? "log global\n    log-format cpu_ns_tot=%[cpu_ns_tot]" : '';
    return <<"CONF";
global
    nbthread 1
    maxconn 256
    profiling.tasks $profiling
    stats socket unix\@$prefix/stats mode 600 level admin
    tune.ssl.cachesize 0
    $log_to
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    http-reuse always
    $log_format
frontend bench
    bind 127.0.0.1:$port->{plain}
    bind 127.0.0.1:$port->{ecdsa} ssl crt $prefix/ecdsa.pem no-tls-tickets
    http-request return status 200 content-type text/plain file $dir/html/1k if { path /1k }
    http-request set-path %[path,regsub(^/proxy,)]
    default_backend origin
backend origin
    server origin 127.0.0.1:$origin->{port}{plain}
CONF
}

# Nanoseconds that have an owner so far: by request (cpu_ns_tot in its log), and by function (show profiling). HAProxy
# reads elapsed time (now_mono_time in run_tasks_from_lists), so time in which another process ran is in it.
sub owned {
    my ($server) = @_;
    my $requests = sum0(map { /cpu_ns_tot=(\d+)/ ? $1 : () } lines(output($server)));
    return { requests => $requests, functions => sum0(map { cpu_ns_of($_) } ask($server, 'show profiling tasks')) };
}

# From a line such as "  process_stream   2000   31.40ms   15.70us   1.204s   602.1us": name, calls, CPU in all, …
my %ns = (ns => 1, us => 1e3, ms => 1e6, s => 1e9, m => 60e9, h => 3600e9, d => 86_400e9);
sub cpu_ns_of {
    my ($line) = @_;
    my ($value, $unit) = $line =~ /^\s+\S+\s+\d+\s+([\d.]+)([mun]?s|[mhd])\s/ or return ();
    return $value * $ns{$unit};
}

sub ask {
    my ($server, $command) = @_;
    my $socket = IO::Socket::UNIX->new(Peer => "$server->{prefix}/stats", Timeout => 10)
        or die "bench: HAProxy does not answer: $!\n";
    print {$socket} "$command\n";
    return <$socket>;
}

sub haproxy_version { my ($version) = `haproxy -v 2>&1` =~ /version (\S+)/; return $version // '?' }

1;
