package Test::RequestCpu::Connection;

# A client's TCP connection: a test decides which bytes are sent, and when.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER SO_RCVBUF IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(sleep time);

sub new {
    my ($class, %option) = @_;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $option{port}, Proto => 'tcp', Timeout => 30,
        # a receive buffer limits the window only if it is set before connect()
        $option{window} ? (Sockopts => [ [ SOL_SOCKET, SO_RCVBUF, pack 'i', $option{window} ] ]) : (),
    ) or die "cannot connect to port $option{port}: $@\n";
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    binmode $socket;
    return bless { socket => $socket, buffer => '', timeout => $option{timeout} || 60 }, $class;
}

sub socket { $_[0]{socket} }

sub send {
    my ($self, $data) = @_;
    my ($offset, $limit) = (0, time + $self->{timeout});
    while ($offset < length $data) {
        my $wrote = syswrite $self->{socket}, $data, length($data) - $offset, $offset;
        return 0 unless defined $wrote;
        $offset += $wrote;
        return 0 if time > $limit;
    }
    return 1;
}

# Sends pieces with a pause between them.
sub send_slowly {
    my ($self, $data, $pieces, $pause) = @_;
    my $size = int(length($data) / $pieces) + 1;
    for (my $at = 0; $at < length $data; $at += $size) {
        $self->send(substr $data, $at, $size) or return 0;
        sleep $pause;
    }
    return 1;
}

# The text of a request.
sub request_text {
    my ($class, $uri, %option) = @_;
    my $method = $option{method} || 'GET';
    my %header = %{ $option{headers} || {} };
    my $text = "$method $uri HTTP/" . ($option{version} || '1.1') . "\r\n";
    $text .= 'Host: ' . (defined $option{host} ? $option{host} : 'localhost') . "\r\n" unless exists $header{Host};
    $text .= "Connection: close\r\n" if $option{close};
    $text .= 'Content-Length: ' . length($option{body}) . "\r\n" if defined $option{body};
    $text .= "$_: $header{$_}\r\n" for grep { defined $header{$_} } sort keys %header;
    return "$text\r\n" . (defined $option{body} ? $option{body} : '');
}

sub request {
    my ($self, $uri, %option) = @_;
    return $self->send($self->request_text($uri, %option));
}

# Sends a request on this connection, and reads the answer.
sub get {
    my ($self, $uri, %option) = @_;
    $self->request($uri, %option);
    return $self->response(method => $option{method});
}

# Reads more bytes into the buffer. 0: the end of the stream; undef: a timeout or a reset.
sub fill {
    my ($self, $timeout) = @_;
    my $limit = time + (defined $timeout ? $timeout : $self->{timeout});
    my $select = IO::Select->new($self->{socket});
    my $left = $limit - time;
    return undef unless $select->can_read($left > 0 ? $left : 0);
    my $got = sysread $self->{socket}, $self->{buffer}, 65536, length $self->{buffer};
    return $got;
}

sub read_until {
    my ($self, $pattern, $timeout) = @_;
    my $limit = time + (defined $timeout ? $timeout : $self->{timeout});
    while (1) {
        return substr $self->{buffer}, 0, $+[0], '' if $self->{buffer} =~ $pattern;
        my $left = $limit - time;
        return undef if $left <= 0 || !$self->fill($left);
    }
}

sub read_bytes {
    my ($self, $count, $timeout) = @_;
    my $limit = time + (defined $timeout ? $timeout : $self->{timeout});
    while (length $self->{buffer} < $count) {
        my $left = $limit - time;
        return undef if $left <= 0 || !$self->fill($left);
    }
    return substr $self->{buffer}, 0, $count, '';
}

sub read_all {
    my ($self, $timeout) = @_;
    my $limit = time + (defined $timeout ? $timeout : $self->{timeout});
    while (1) {
        my $left = $limit - time;
        last if $left <= 0 || !$self->fill($left);
    }
    my $all = $self->{buffer};
    $self->{buffer} = '';
    return $all;
}

# True if the server closes the connection in time. Data before that is ignored.
sub closed_within {
    my ($self, $seconds) = @_;
    my $limit = time + $seconds;
    while (1) {
        my $left = $limit - time;
        return 0 if $left <= 0;
        my $got = $self->fill($left);
        return 1 if defined $got && $got == 0;
        return 1 if !defined $got && $!{ECONNRESET};
    }
}

# { status, headers => { lower-case name => value }, raw, body, complete }; status 0 if there was no answer.
sub response {
    my ($self, %option) = @_;
    my $timeout = $option{timeout};
    my $head = $self->read_until(qr/\r\n\r\n/, $timeout);
    return { status => 0, headers => {}, body => '', raw => '', complete => 0 } unless defined $head;
    my ($status) = $head =~ m{^HTTP/\d\.\d (\d{3})};
    my %header;
    $header{ lc $1 } = $2 while $head =~ /^([^:\r\n]+):[ \t]*([^\r\n]*)\r$/mg;
    my $answer = { status => $status || 0, headers => \%header, raw => $head, body => '', complete => 1 };
    return $answer if ($option{method} || '') eq 'HEAD' || $answer->{status} =~ /^(?:1..|204|304)$/;

    if (lc($header{'transfer-encoding'} || '') eq 'chunked') {
        while (1) {
            my $line = $self->read_until(qr/\r\n/, $timeout);
            if (!defined $line || $line !~ /^([0-9a-fA-F]+)/) { $answer->{complete} = 0; last }
            my $size = hex $1;
            my $chunk = $self->read_bytes($size + 2, $timeout);
            if (!defined $chunk) { $answer->{complete} = 0; last }
            last if $size == 0;
            $answer->{body} .= substr $chunk, 0, $size;
        }
    } elsif (defined $header{'content-length'}) {
        my $body = $self->read_bytes($header{'content-length'}, $timeout);
        $answer->{complete} = 0 unless defined $body;
        $answer->{body} = defined $body ? $body : $self->{buffer};
    } else {
        $answer->{body} = $self->read_all($timeout);
    }
    return $answer;
}

sub close { my ($self) = @_; close $self->{socket} if $self->{socket}; delete $self->{socket} }

# Closes with a reset.
sub reset {
    my ($self) = @_;
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    $self->close;
}

1;
