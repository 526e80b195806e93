# Beside the others: what measuring costs this module, nginx-module-vts and HAProxy, each compared with itself, and how
# much of the CPU time of the process has an owner afterwards.
package Bench::Peers;

use strict;
use warnings;
use Bench::Cases qw(%case);
use Bench::Cpu qw(status);
use Bench::Figures qw(in_turns ratios row us);
use Bench::HAProxy qw(haproxy_version owned start_haproxy);
use Bench::Load qw(calibrate load);
use Bench::Processes qw(%option cpu_ns stop);
use Bench::Servers qw(start start_origin);
use Bench::Vts qw(build_vts);
use Exporter qw(import);
use File::Path qw(remove_tree);
use JSON::PP ();
use List::Util qw(max min shuffle);
use POSIX ();
use Tool qw(median progress spew);

our @EXPORT_OK = qw(peers);

# Loads whose CPU per request is compared.
my @compared = @case{qw(static proxy)};

# Loads after which is asked who the owner of the CPU time is. HAProxy serves no files.
my @owned = (
    { %{ $case{'10m'} }, about => '10 MB from a file' },
    {
        %{ $case{'10m'} }, name => '10m-proxy', about => '10 MB from an upstream',
        path => '/pass/10m', haproxy => '/proxy/10m',
    },
    { %{ $case{tls} }, haproxy => '/1k' },
    { %{ $case{'handshake-ecdsa'} }, haproxy => '/1k' },
);

# The servers of a family: name, and how one is started for a case in front of an origin. The first is the reference.
sub families {
    my $nginx = sub { my @kind = @_; return sub { my ($case, $origin) = @_; return start($case, \@kind, $origin) } };
    my $haproxy = sub { my @kind = @_; return sub { my ($case, $origin) = @_; return start_haproxy(@kind, $origin) } };
    my @nginx = (['without'], ['again'], ['hybrid', 'hybrid']);
    push @nginx, ['vts', '', build_vts($option{vts}), 'vhost_traffic_status_zone;'] if defined $option{vts};
    my @haproxy = (['off', 'off'], ['off-again', 'off'], ['on', 'on']);
    return (
        { name => 'NGINX', servers => [map { [$_->[0], $nginx->(@$_)] } @nginx] },
        { name => 'HAProxy', servers => [map { [$_->[0], $haproxy->(@$_)] } @haproxy] },
    );
}

sub peers {
    my @families = families();
    my %raw;
    my $save = sub { spew($option{json}, JSON::PP->new->canonical->encode(\%raw)) if defined $option{json} };
    printf <<"TEXT", haproxy_version(), @option{qw(rounds seconds blocks)};
HAProxy %s, one thread; %d rounds of %s s in %d blocks; microseconds of CPU per request, and ratios to the
first column, which is the same server without measuring
TEXT
    my @results;
    for my $case (@compared) {
        my $turns = $raw{ratios}{ $case->{name} } = measure($case, @families);
        $save->();
        push @results, map { { case => $case, family => $_, turns => $turns->{ $_->{name} } } } @families;
    }
    for my $family (@families) {
        show_ratios($family, grep { $_->{family} == $family } @results);
    }
    $raw{owned} = owners();
    $save->();
    show_owners($raw{owned});
    print "\nnginx-module-vts was left out: --vts names the folder of its source\n" unless defined $option{vts};
    return;
}

# The turns of a case by family. Families take turns by blocks.
sub measure {
    my ($case, @families) = @_;
    my (%turns, %requests);
    for my $block (1 .. $option{blocks}) {
        progress("$case->{name}: block $block of $option{blocks}");
        my $origin = start_origin();
        for my $family (shuffle @families) {
            my ($reference, @others) = map { $_->[0] } @{ $family->{servers} };
            my %server = map { $_->[0] => $_->[1]->($case, $origin) } shuffle @{ $family->{servers} };
            $requests{ $family->{name} } //= calibrate($case, $server{$reference});
            my $load = sub { return load($case, $server{ $_[0] }, $requests{ $family->{name} }) };
            # caches are warm from here on
            $load->($_) for keys %server;
            my $turn = sub {
                my ($name) = @_;
                push @{ $turns{ $family->{name} } }, { block => $block, name => $name, %{ $load->($name) } };
            };
            in_turns(POSIX::ceil($option{rounds} / $option{blocks}), $reference, \@others, $turn);
            stop(map { $_->{pid} } values %server);
            remove_tree(map { $_->{prefix} } values %server);
        }
        stop($origin->{pid});
        remove_tree($origin->{prefix});
    }
    progress('');
    return \%turns;
}

sub show_ratios {
    my ($family, @results) = @_;
    my ($reference, @others) = map { $_->[0] } @{ $family->{servers} };
    printf "\n%-8s%-35s%10s" . '%13s' x @others . "%15s\n", $family->{name}, '', $reference, @others, 'left out';
    for my $result (@results) {
        my %ratios = ratios($reference, $result->{turns}, sub { $_[0]{ns} });
        my $ns = median(map { $_->{ns} } grep { $_->{name} eq $reference } @{ $result->{turns} });
        printf "%-8s%-35s%10s%s%15s\n", @{ $result->{case} }{qw(name about)}, us($ns), row($ratios{ratio}, @others),
            "$ratios{left_out} of $ratios{turns}";
    }
    return;
}

# Shares of the CPU time of a process under a load, in each block: [{ load, server, seconds, shares by owner }].
sub owners {
    # long enough for what happens but once a second
    local $option{seconds} = 10 * $option{seconds};
    my @owners;
    for my $case (@owned) {
        for my $block (1 .. $option{blocks}) {
            progress("owners, $case->{name}: block $block of $option{blocks}");
            my $origin = start_origin();
            for my $name (shuffle 'hybrid', $case->{haproxy} ? 'haproxy' : ()) {
                my $haproxy = $name eq 'haproxy';
                my $server = $haproxy
                    ? start_haproxy($name, 'on', $origin, 1) : start($case, [$name, 'hybrid'], $origin);
                my $asked = $haproxy ? { %$case, path => $case->{haproxy} } : $case;
                my $requests = calibrate($asked, $server);
                my $known = $haproxy ? \&haproxy_knows : \&module_knows;
                my $before = $known->($server);
                load($asked, $server, $requests);
                my $after = $known->($server);
                my %ns = map { $_ => $after->{$_} - $before->{$_} } keys %$after;
                my $kernel_ns = max(1, delete $ns{kernel_ns});
                push @owners, {
                    load => $case->{name}, about => $case->{about}, server => $name, seconds => $kernel_ns / 1e9,
                    share => { map { $_ => $ns{$_} / $kernel_ns } keys %ns },
                };
                stop($server->{pid});
                remove_tree($server->{prefix});
            }
            stop($origin->{pid});
            remove_tree($origin->{prefix});
        }
    }
    progress('');
    return \@owners;
}

sub module_knows {
    my ($server) = @_;
    my $status = status($server);
    return { kernel_ns => $status->{kernel_ns}, map { $_ => $status->{"${_}_ns"} } qw(charged no_request loop other) };
}

sub haproxy_knows {
    my ($server) = @_;
    my ($kernel_ns) = cpu_ns($server->{worker});
    return { kernel_ns => $kernel_ns, %{ owned($server) } };
}

sub show_owners {
    my ($owners) = @_;
    my @parts = (
        {
            server => 'hybrid', columns => [qw(charged no_request loop other)],
            title => 'this module, clock "hybrid"; charged: to requests and connections',
        },
        {
            server => 'haproxy', columns => [qw(requests functions)],
            title => "HAProxy with profiling.tasks on; requests: cpu_ns_tot of each; functions: show profiling tasks.\n"
                . 'It reads elapsed time: where other processes use the processor, its shares are too large',
        },
    );
    print "\nshare of the CPU time of the process that has an owner afterwards; median and half the range of the blocks\n";
    for my $part (@parts) {
        my @columns = @{ $part->{columns} };
        printf "\n%s\n%-16s%-35s%8s" . '%18s' x @columns . "\n", $part->{title}, 'load', '', 'CPU s', @columns;
        for my $case (@owned) {
            my @of_load = grep { $_->{load} eq $case->{name} && $_->{server} eq $part->{server} } @$owners or next;
            printf "%-16s%-35s%8.2f", @$case{qw(name about)}, median(map { $_->{seconds} } @of_load);
            for my $column (@columns) {
                my @shares = map { 100 * $_->{share}{$column} } @of_load;
                printf '%9.2f %% ±%5.2f', median(@shares), (max(@shares) - min(@shares)) / 2;
            }
            print "\n";
        }
    }
    my @none = ('NGINX without the module', defined $option{vts} ? 'nginx-module-vts' : ());
    print "\n", join(', ', @none), ": CPU time has no owner\n";
    return;
}

1;
