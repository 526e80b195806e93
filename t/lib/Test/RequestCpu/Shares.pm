package Test::RequestCpu::Shares;

# Compares the charges of accounts with the work that each of them caused.

use strict;
use warnings;

use Test::More;
use Test::RequestCpu;

# At 0.001 cores, this debt lasts longer than the time limit of a test, however slow the machine is.
use constant DEBT_NS => 400_000_000;

# new(TEST, zone => NAME, rounds => N): a scenario that fails is repeated. Other load on the machine makes some
# figures wrong, but not those of all rounds.
sub new {
    my ($class, $t, %option) = @_;
    return bless { t => $t, zone => $option{zone} || 'hosts', rounds => $option{rounds} || 3, prefix => '' }, $class;
}

# The upstream of uploads is another NGINX, so that its cost is not the worker's. Returns the server, which lives as
# long as the result, and its address.
sub sink {
    my $back = Test::RequestCpu->new(module => 0);
    $back->start(log => 0, http => <<'EOC');
    server {
        listen 127.0.0.1:{{port:http}};
        client_max_body_size 0;
        location / { return 200 "sunk\n"; }
        location = /read { client_body_buffer_size 64k; proxy_pass http://127.0.0.1:{{port:http}}/; }
    }
EOC
    return ($back, '127.0.0.1:' . $back->port('http'));
}

# The largest charge of a small request that costs so much alone.
sub bound { my ($self, $ns) = @_; return 1.2 * $ns + 50_000 }

sub used {
    my ($self) = @_;
    my $keys = $self->{t}->status->{zones}{ $self->{zone} }{keys};
    return { map { $_ => $keys->{$_}{cpu_ns} } keys %$keys }
}

sub refused {
    my ($self, $key) = @_;
    my $limit = $self->{t}->account($self->{zone}, $key)->{limit} || {};
    return { map { $_ => $limit->{$_} || 0 } qw(refused refused_cpu_ns debt_ns) };
}

# CPU of the worker during a function, and the charges of the accounts while connections stay open. The charges are
# read as soon as the accounts have most of the CPU, and at the latest after the time that the module may take. The
# function returns the connections to close then.
sub accounted {
    my ($self, $code) = @_;
    my $before = $self->used;
    my @open;
    my ($used, $work) = $self->{t}->worked(sub { @open = $code->() });
    my $grown;
    wait_until(2.5, sub {
        my $after = $self->used;
        $grown = { map { $_ => $after->{$_} - ($before->{$_} || 0) } keys %$after };
        return sum(values %$grown) >= 0.92 * $work;
    });
    $_->close for @open;
    return { used => $used, work => $work, grown => $grown, of => sub { $grown->{ $_[0] } || 0 } };
}

# The cost of one of so many small requests that a function sends: the minimum of some rounds. It is for hosts without
# another figure.
sub alone {
    my ($self, $host, $requests, $code) = @_;
    my $least = $self->least_cost($host, $requests, $code);
    note(sprintf '%sa small request costs %.1f us alone', $self->{prefix}, $least / 1000);
    return $self->{alone} = $self->{alone_of}{$host} = $least;
}

# Requests of this host cost more than small ones, for example because they are logged as errors.
sub alone_of {
    my ($self, $host, $requests, $code) = @_;
    my $least = $self->least_cost($host, $requests, $code);
    note(sprintf '%sa request of %s costs %.1f us alone', $self->{prefix}, $host, $least / 1000);
    return $self->{alone_of}{$host} = $least;
}

sub cost_of { my ($self, $host) = @_; return $self->{alone_of}{$host} || $self->{alone} }

sub least_cost {
    my ($self, $host, $requests, $code) = @_;
    my $least;
    for (1 .. 3) {
        my $ns = $self->accounted($code)->{of}->($host) / $requests;
        $least = $ns if !defined $least || $ns < $least;
    }
    return $least;
}

# scenario(NAME, owners => { HOST => SHARE }, small => { HOST => NUMBER }, run => CODE). The owners cause all work, in
# these shares. The small requests are not part of it, nor are the charges of first.test and of the hosts of `aside`.
sub scenario {
    my ($self, $name, %what) = @_;
    $name = "$self->{prefix}$name";
    return if $ENV{TEST_SCENARIO} && $name !~ /$ENV{TEST_SCENARIO}/;
    my %small = %{ $what{small} || {} };
    my %owners = %{ $what{owners} };
    my $whole = sum(values %owners);
    my %most = map { $_ => $small{$_} * $self->bound($self->cost_of($_)) } keys %small;
    # with several owners, one may have got a twentieth of the work from another: 95 % are right then
    my $slack = keys %owners > 1 ? 0.05 * $whole : 0;
    my %least = map { $_ => 0.8 - $slack / $owners{$_} } keys %owners;
    my %greatest = map { $_ => 1.25 + $slack / $owners{$_} } keys %owners;
    my ($figures, %expected, $of);
    for (1 .. $self->{rounds}) {
        $figures = $self->accounted($what{run});
        $of = $figures->{of};
        my $rest = $figures->{work} - sum(map { $of->($_) } 'first.test', @{ $what{aside} || [] })
            - sum(map { $small{$_} * $self->cost_of($_) } keys %small);
        %expected = map { $_ => $rest * $owners{$_} / $whole } keys %owners;
        last if !(grep { $of->($_) > $most{$_} } keys %small)
            && !(grep { $of->($_) < $least{$_} * $expected{$_}
                || $of->($_) > $greatest{$_} * $expected{$_} } keys %owners);
        # a busy machine does not halve a share
        last if grep { $of->($_) < 0.5 * $expected{$_} } keys %owners;
    }
    within($of->($_), $expected{$_}, $least{$_}, $greatest{$_}, "$name: $_ is charged what it has caused")
        for sort keys %owners;
    cmp_ok(sum(map { $of->($_) } keys %owners), '<=', $figures->{used} * 1.02,
        "$name: and no more than the worker has used");
    cmp_ok($of->($_), '<=', $most{$_}, "$name: $_ is charged what its requests cost alone") for sort keys %small;
    return $figures;
}

# Brings a host into debt: its requests for a location with a limit are refused for as long as a test takes. `get`
# sends a request and returns nothing. The request for "burn" should cost much.
sub indebted {
    my ($self, $host, $get) = @_;
    return wait_until(60, sub {
        # a limit begins to count with its first request
        $get->('/refused');
        $get->("/burn?x=" . burn_text(20));
        $get->('/refused');
        my $refused = $self->refused($host);
        return $refused->{refused} > 0 && $refused->{debt_ns} > DEBT_NS;
    });
}

1;
