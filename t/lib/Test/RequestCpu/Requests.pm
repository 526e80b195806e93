package Test::RequestCpu::Requests;

# Requests and their lines in the access log. A part of Test::RequestCpu.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Test::RequestCpu::Connection;
use Test::RequestCpu::Process qw($PATIENCE wait_until);

sub connect {
    my ($self, $port, %option) = @_;
    return Test::RequestCpu::Connection->new(port => $port =~ /^\d+$/ ? $port : $self->port($port), %option);
}

# Sends one request on a new connection.
sub get {
    my ($self, $uri, %option) = @_;
    my $port = delete $option{port} || 'http';
    my $connection = $self->connect($port, timeout => delete $option{timeout});
    $connection->request($uri, %option, close => 1);
    my $answer = $connection->response(method => $option{method});
    $connection->close;
    return $answer;
}

# Lines of the access log, as soon as there are $count lines for which the filter is true. NGINX writes a line after
# the client has its answer, so every reader must wait for it.
sub logged {
    my ($self, $count, $filter, %option) = @_;
    my @lines;
    wait_until($option{timeout} || $PATIENCE, sub {
        @lines = grep { !$filter || $filter->($_) } $self->log_lines;
        return @lines >= $count;
    });
    if (@lines < $count) {
        diag("waited for $count lines in the access log, there are " . @lines);
        die "access log is not complete\n";
    }
    return @lines;
}

sub log_lines {
    my ($self) = @_;
    my $path = "$self->{dir}/access.log";
    my $read = $self->{log_read};
    # lines that were already decoded are kept, unless the file is another one or was emptied
    $read = $self->{log_read} = { offset => 0, lines => [], file => '' }
        if !$read || $read->{offset} > (-s $path || 0) || $read->{file} ne _identity($path);
    open my $file, '<', $path or return;
    $read->{file} = _identity($path);
    binmode $file;
    seek $file, $read->{offset}, 0;
    local $/;
    my $text = <$file>;
    my $json = JSON::PP->new;
    # the last line may be incomplete
    while (defined $text && $text =~ /\G(.*)\n/g) {
        my $line = $1;
        $read->{offset} += 1 + length $line;
        push @{ $read->{lines} }, eval { $json->decode($line) } || ();
    }
    return @{ $read->{lines} };
}

sub _identity { my ($path) = @_; my ($device, $inode) = stat $path; return defined $inode ? "$device $inode" : '' }

sub clear_log {
    my ($self) = @_;
    # An answered request may not have written its line yet.
    $self->quiet;
    truncate "$self->{dir}/access.log", 0;    # NGINX appends
    delete $self->{log_read};
}

1;
