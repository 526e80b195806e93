package Test::RequestCpu::Port;

# Ports that no other test has.

use strict;
use warnings;

use Exporter qw(import);
use IO::Socket::INET;
use IO::Socket::UNIX;

our @EXPORT_OK = qw(free_port);

my %given;

sub free_port {
    # Outside the range that the kernel takes source ports from, which a client of another test may hold at any
    # moment. One that was given out may not be in use yet: while this process lives, a socket without a file says so
    # to other tests.
    for (1 .. 500) {
        my $port = 10_000 + int rand 20_000;
        next if $given{$port};
        my $claim = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "\0request-cpu-port-$port") or next;
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1) or next;
        close $socket;
        $given{$port} = $claim;
        return $port;
    }
    die "no free port\n";
}

1;
