package Test::RequestCpu::Accounts;

# The module's status: accounts in JSON and in Prometheus' format. A part of Test::RequestCpu.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use Test::RequestCpu::Process qw($PATIENCE wait_until);

our @EXPORT_OK = qw(parse_prometheus);

sub status {
    my ($self, $query, %option) = @_;
    my $answer = $self->get('/?format=json' . (defined $query ? "&$query" : ''), port => 'status', %option);
    die "status page answers $answer->{status}: $answer->{body}\n" if $answer->{status} != 200;
    return JSON::PP->new->utf8->decode($answer->{body});
}

# One account. If it does not exist, an empty one, with zeros for the counters of each account.
sub account {
    my ($self, $zone, $key) = @_;
    my $zones = $self->status->{zones};
    my $found = $zones->{$zone}{keys}{$key};
    return $found || { requests => 0, cpu_ns => 0, wakeups => 0, sent_bytes => 0, received_bytes => 0, in_flight => 0,
        responses => {} };
}

# The account as soon as it has so many requests: a request is counted at its very end.
sub account_with {
    my ($self, $zone, $key, $requests) = @_;
    my $account;
    wait_until($PATIENCE, sub { $account = $self->account($zone, $key); return $account->{requests} >= $requests });
    return $account;
}

# Samples of the Prometheus text: [ name, { label => value }, number ].
sub prometheus {
    my ($self, $query) = @_;
    my $answer = $self->get('/?format=prometheus' . (defined $query ? "&$query" : ''), port => 'status');
    die "status page answers $answer->{status}: $answer->{body}\n" if $answer->{status} != 200;
    return (parse_prometheus($answer->{body}), $answer->{body});
}

sub parse_prometheus {
    my ($text) = @_;
    my %unescape = ('\\' => '\\', '"' => '"', n => "\n");
    my @samples;
    for my $line (split /\n/, $text) {
        next if $line eq '' || $line =~ /^#/;
        $line =~ /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/s or die "no Prometheus sample: $line\n";
        my ($name, $labels, $value) = ($1, defined $2 ? $2 : '', $3);
        my %label;
        while ($labels =~ /\G([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)",?/gcs) {
            my ($label, $escaped) = ($1, $2);
            $escaped =~ s/\\(.)/defined $unescape{$1} ? $unescape{$1} : die "bad escape in $line\n"/ges;
            $label{$label} = $escaped;
        }
        die "bad labels: $line\n" if (pos($labels) || 0) != length $labels;
        push @samples, [ $name, \%label, $value ];
    }
    return \@samples;
}

1;
