# Instructions of user space per request, counted by valgrind.
package Bench::Instructions;

use strict;
use warnings;
use Bench::Cases qw(@cases);
use Bench::Load qw(h2load);
use Bench::Processes qw(%option @running run stop);
use Bench::Servers qw($nginx configuration kinds nginx server start_origin);
use Exporter qw(import);
use File::Path qw(remove_tree);
use IO::Socket::INET;
use List::Util qw(max sum);
use POSIX ();
use Time::HiRes qw(sleep);
use Tool qw(lines progress);

our @EXPORT_OK = qw(instructions);

# Counted in one process that is master and worker in one; of two runs, the longer less the shorter, so that starting,
# the connection and ending cancel out. The kernel's part is not counted.
sub instructions {
    if (grep { $_->{keys} } @_) { die "bench: \"keys\" draws by lot, so two runs of it cannot be compared\n" }
    my @kinds = kinds();
    @_ = grep { $_->{name} =~ /^(?:static-1|log|limit|zones-[38])$/ } @cases unless @_;
    my @runs = (500, 2500);
    print "user-space instructions per request, counted by valgrind with one connection";
    print ";\nunder it laps look long, so that the clock \"hybrid\" has max_error=10ms here\n\n";
    my @names = map { $_->[0] } @kinds;
    printf "%-16s%-35s" . '%11s' x @names . "\n", 'case', '', @names;
    for my $case (@_) {
        my %each;
        for my $kind (@kinds) {
            my ($less, $more) = map { count({ %$case, connections => 1 }, $kind, $_) } @runs;
            my $requests = $runs[1] - $runs[0];
            $each{ $kind->[0] } = { map { $_ => ($more->{$_} - ($less->{$_} // 0)) / $requests } keys %$more };
        }
        my ($without, @others) = map { sum(values %{ $each{$_} }) } @names;
        printf "%-16s%-35s%11.0f" . '%+11.0f' x @others . "\n",
            @$case{qw(name about)}, $without, map { $_ - $without } @others;
        functions(\@names, \%each) if $option{functions};
    }
    return;
}

# Where instructions were added.
sub functions {
    my ($names, $each) = @_;
    my %added;
    for my $name (@$names) {
        for my $function (keys %{ $each->{$name} }) {
            my $more = $each->{$name}{$function} - ($each->{ $names->[0] }{$function} // 0);
            $added{$function}{$name} = $more if $more >= 10;
        }
    }
    my $most = sub { max(values %{ $added{ $_[0] } }) };
    for my $function (sort { $most->($b) <=> $most->($a) } keys %added) {
        printf "  %-60.60s" . '%11s' x $#$names . "\n", $function =~ s/ngx_http_request_cpu_module:://r,
            map { defined $_ ? sprintf '%+.0f', $_ : '' } @{ $added{$function} }{ @$names[1 .. $#$names] };
    }
    return;
}

# Instructions of a server's whole life, by function.
sub count {
    my ($case, $kind, $requests) = @_;
    progress("$case->{name}: \"$kind->[0]\" with $requests requests");
    my $origin = start_origin();
    my $server = server(@$kind);
    my $conf = configuration($case, $server, $origin, ($server->{clock} // '') eq 'hybrid' ? ' max_error=10ms' : '');
    my $counts = "$server->{prefix}/callgrind.out";
    nginx($server, "$conf\ndaemon off; master_process off;", '-t') == 0
        or die "bench: $server->{name}: ", lines("$server->{prefix}/error.log");
    my $prefix = $server->{prefix};
    my @nginx = ($nginx, '-p', $prefix, '-e', "$prefix/error.log", '-c', "$prefix/nginx.conf");
    my @valgrind = ('valgrind', '--tool=callgrind', "--callgrind-out-file=$counts");
    my $pid = run(undef, "$server->{prefix}/valgrind.log", @valgrind, @nginx);
    for (1 .. 3000) {
        last if IO::Socket::INET->new(PeerAddr => "127.0.0.1:$server->{port}{plain}");
        waitpid($pid, POSIX::WNOHANG()) and die "bench: valgrind failed:\n", lines("$server->{prefix}/valgrind.log");
        sleep 0.01;
    }
    h2load($case, $server, $requests);
    # one that comes between the loop's look at its flags and its wait for events is noticed after the next event only
    do { kill 'TERM', $pid; sleep 0.1 } until waitpid $pid, POSIX::WNOHANG();
    @running = grep { $_ != $pid } @running;
    my $instructions = self_cost($counts);
    %$instructions or die "bench: valgrind has not counted:\n", lines("$server->{prefix}/valgrind.log");
    stop($origin->{pid});
    remove_tree($server->{prefix}, $origin->{prefix});
    progress('');
    return $instructions;
}

# From callgrind's file (its "Callgrind Format Specification"): a name is spelt out where its number stands first, and
# the line after calls= is the callee's cost.
sub self_cost {
    my ($file) = @_;
    my (%name, %cost, $function);
    my @lines = lines($file);
    while (defined(my $line = shift @lines)) {
        if (my ($callee, $number, $name) = $line =~ /^(c?)fn=\((\d+)\)(?: (.*))?$/) {
            $name{$number} = $name if defined $name;
            $function = $name{$number} unless $callee;
        }
        elsif ($line =~ /^calls=/) { shift @lines }
        elsif (defined $function && $line =~ /^[-+*\d]\S* (\d+)/) { $cost{$function} += $1 }
    }
    return \%cost;
}

1;
