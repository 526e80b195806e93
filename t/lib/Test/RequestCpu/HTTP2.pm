package Test::RequestCpu::HTTP2;

# The part of HTTP/2 (RFC 9113) that lets a test choose the frames of each packet: prior knowledge or TLS, header
# fields as literals without compression, statuses only as NGINX sends them: as an index or a plain literal.

use strict;
use warnings;

use IO::Select;

use Test::RequestCpu::Connection;

my %type = (data => 0, headers => 1, rst_stream => 3, settings => 4, ping => 6, goaway => 7, window_update => 8);
my %static_status = (8 => 200, 9 => 204, 10 => 206, 11 => 304, 12 => 400, 13 => 404, 14 => 500);

sub new {
    my ($class, $connection, %option) = @_;
    my $self = bless { connection => $connection, next => 1, streams => {} }, $class;
    $self->{window} = $option{window} || 1 << 30;
    # a window update for the connection follows every DATA frame, or so many bytes
    $self->{update_after} = $option{update_after} || 1;
    # bytes that may be sent: on the connection, and on a new stream (RFC 9113, section 6.9.2)
    $self->{may_send} = $self->{initial} = 65_535;
    return $self;
}

sub frame {
    my ($type, $flags, $stream, $payload) = @_;
    return substr(pack('N', length $payload), 1) . pack('CCN', $type{$type}, $flags, $stream) . $payload;
}

# The connection preface, with large windows.
sub preface {
    my ($self) = @_;
    return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame('settings', 0, 0, pack 'nN', 4, $self->{window})
        . frame('window_update', 0, 0, pack 'N', (1 << 30));
}

sub field {
    my ($name, $value) = @_;
    # literal without indexing, new name, no Huffman coding; lengths below 127 only
    die "field too long\n" if length $name > 126 || length $value > 126;
    return "\0" . chr(length $name) . $name . chr(length $value) . $value;
}

# The frames of one request; the stream's number is in $$number. With open => 1, a body follows later.
sub request {
    my ($self, $uri, %option) = @_;
    my $stream = $self->{next};
    $self->{next} += 2;
    $self->{streams}{$stream} = { body => '', length => 0, may_send => $self->{initial} };
    ${ $option{number} } = $stream if $option{number};
    my %header = %{ $option{headers} || {} };
    my $block = field(':method', $option{method} || 'GET') . field(':scheme', 'http') . field(':path', $uri)
        . field(':authority', $option{host} || 'localhost') . join '',
        map { field(lc $_, $header{$_}) } sort keys %header;
    my $frames = frame('headers', defined $option{body} || $option{open} ? 0x4 : 0x5, $stream, $block);
    $frames .= frame('data', 0x1, $stream, $option{body}) if defined $option{body};
    return $frames;
}

sub ping { return frame('ping', 0, 0, $_[1] || 'requests') }
sub rst_stream { my ($self, $stream) = @_; return frame('rst_stream', 0, $stream, pack 'N', 8) }
sub data { my ($self, $stream, $data, %option) = @_; return frame('data', $option{end} ? 1 : 0, $stream, $data) }
sub settings { return frame('settings', 0, 0, '') }
# a frame of an unknown type, which must be ignored (RFC 9113, section 4.1)
sub unknown { my ($self, $stream) = @_; return substr(pack('N', 8), 1) . pack('CCN', 0x40, 0, $stream || 0) . 'x' x 8 }
sub send { my ($self, @frames) = @_; return $self->{connection}->send(join '', @frames) }

# Sends so many bytes of a body, as fast as the server allows. With end => 1 the body ends there. False if the stream
# was reset or answered meanwhile, or if the connection was closed.
sub upload {
    my ($self, $number, $bytes, %option) = @_;
    my $stream = $self->{streams}{$number};
    my $payload = 'x' x 16_384;
    while ($bytes > 0) {
        my $frames = '';
        while ($bytes > 0 && length $frames < 256_000 && $self->{may_send} > 0 && $stream->{may_send} > 0) {
            my ($length) = sort { $a <=> $b } 16_384, $bytes, $self->{may_send}, $stream->{may_send};
            $bytes -= $length;
            $_ -= $length for $self->{may_send}, $stream->{may_send};
            $frames .= $self->data($number, $length == 16_384 ? $payload : substr($payload, 0, $length),
                end => $option{end} && !$bytes);
        }
        if (length $frames) { $self->send($frames) or return 0 }
        else { $self->read_frame or return 0 }
        $self->read_pending;
        return 0 if $stream->{ended};
    }
    return 1;
}

# Reads the data that has arrived, without waiting.
sub read_pending {
    my ($self) = @_;
    my $connection = $self->{connection};
    while (length $connection->{buffer} || IO::Select->new($connection->socket)->can_read(0)) {
        $self->read_frame or return 0;
    }
    return 1;
}

# Reads frames until the named streams, or by default all streams, have ended.
sub finish {
    my ($self, @streams) = @_;
    @streams = keys %{ $self->{streams} } unless @streams;
    while (grep { !$self->{streams}{$_}{ended} } @streams) {
        $self->read_frame or return 0;
    }
    return 1;
}

sub read_frame {
    my ($self) = @_;
    my $connection = $self->{connection};
    my $head = $connection->read_bytes(9);
    return unless defined $head;
    my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', $head;
    my $length = ($high << 16) + $low;
    my $payload = $length ? $connection->read_bytes($length) : '';
    return unless defined $payload;
    my $state = $self->{streams}{ $stream & 0x7fffffff };
    if ($type == $type{settings} && !($flags & 1)) {
        my %setting = unpack '(nN)*', $payload;
        if (defined $setting{4}) {
            $_->{may_send} += $setting{4} - $self->{initial} for values %{ $self->{streams} };
            $self->{initial} = $setting{4};
        }
        $connection->send(frame('settings', 1, 0, ''));
    } elsif ($type == $type{settings}) {
        $self->{settings_acks}++;
    } elsif ($type == $type{window_update}) {
        my $increment = unpack 'N', $payload;
        if ($state) { $state->{may_send} += $increment }
        elsif (!$stream) { $self->{may_send} += $increment }
    } elsif ($type == $type{data} && $state) {
        $state->{body} .= $payload;
        $state->{length} += $length;
        $self->{to_update} += $length;
        if ($self->{to_update} >= $self->{update_after}) {
            $connection->send(frame('window_update', 0, 0, pack 'N', $self->{to_update}));
            $self->{to_update} = 0;
        }
        $state->{ended} = 1 if $flags & 1;
    } elsif ($type == $type{headers} && $state) {
        my $first = ord substr $payload, 0, 1;
        # NGINX may begin with a change of the table size
        if (($first & 0xe0) == 0x20) { $first = ord substr $payload, 1, 1 }
        $state->{status} = $static_status{ $first & 0x7f } if $first & 0x80;
        $state->{ended} = 1 if $flags & 1;
    } elsif ($type == $type{rst_stream} && $state) {
        $state->{ended} = $state->{reset} = 1;
    } elsif ($type == $type{ping} && ($flags & 1)) {
        $self->{pongs}++;
    } elsif ($type == $type{goaway}) {
        $self->{goaway} = 1;
    }
    return 1;
}

sub close { my ($self) = @_; $self->{connection}->close }
sub stream { my ($self, $number) = @_; return $self->{streams}{$number} }

1;
