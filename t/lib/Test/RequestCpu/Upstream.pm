package Test::RequestCpu::Upstream;

# A small HTTP/1.1 server behind NGINX: a process that forks for every connection, with a function that answers.

use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(sleep);

use Test::RequestCpu::Connection;

# start($test, port name, sub { my ($upstream connection, $request) = @_; ... }). The request is { method, uri,
# headers, body }. The function answers with answer(), or with send() for another form. A connection stays open as
# long as the function returns true.
sub start {
    my ($class, $test, $port, $answer) = @_;
    my $listen = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => $test->port($port), Listen => 128, ReuseAddr => 1,
    ) or die "upstream cannot listen: $@\n";
    my $child = $test->spawn(sub {
        $SIG{CHLD} = 'IGNORE';
        $SIG{PIPE} = 'IGNORE';
        while (1) {
            my $socket = $listen->accept or next;
            my $pid = fork;
            next unless defined $pid;
            if ($pid == 0) {
                close $listen;
                setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
                my $connection = bless { socket => $socket, buffer => '', timeout => 60 },
                    'Test::RequestCpu::Upstream::Connection';
                eval { $connection->serve($answer) };
                POSIX::_exit(0);
            }
            close $socket;
        }
    });
    close $listen;
    return $child;
}

package Test::RequestCpu::Upstream::Connection;

use strict;
use warnings;

our @ISA = ('Test::RequestCpu::Connection');

sub serve {
    my ($self, $answer) = @_;
    while (defined(my $head = $self->read_until(qr/\r\n\r\n/))) {
        my ($method, $uri) = $head =~ /^(\S+) (\S+)/ or return;
        my %header;
        $header{ lc $1 } = $2 while $head =~ /^([^:\r\n]+):[ \t]*([^\r\n]*)\r$/mg;
        my $body = $header{'content-length'} ? $self->read_bytes($header{'content-length'}) : '';
        $self->{served}++;
        my $more = $answer->($self,
            { method => $method, uri => $uri, headers => \%header, body => $body, nth => $self->{served} });
        return unless $more && lc($header{connection} || '') ne 'close';
    }
}

# Sends a complete answer. Returns true, so that a function can end with it and keep the connection.
sub answer {
    my ($self, $body, %option) = @_;
    my $status = $option{status} || '200 OK';
    my $headers = join '', map { "$_: $option{headers}{$_}\r\n" } sort keys %{ $option{headers} || {} };
    $self->send("HTTP/1.1 $status\r\nContent-Length: " . length($body) . "\r\n$headers\r\n$body");
    return 1;
}

1;
