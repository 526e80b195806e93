package Test::RequestCpu::Port;

# Finds ports that no other test uses.

use strict;
use warnings;

use Exporter qw(import);
use IO::Socket::INET;
use IO::Socket::UNIX;

our @EXPORT_OK = qw(free_port);

my %given;

sub free_port {
    # The ports are outside the range from which the kernel takes source ports: a client of another test may use one
    # of those at any moment. A returned port may not be in use yet. While this process lives, an abstract socket
    # shows other tests that the port is taken.
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
