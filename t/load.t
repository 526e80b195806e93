# The module is loaded, unused, used, replaced by a copy from another path and taken away, in any order, by reloads and by
# binary upgrades. NGINX lives, nothing is lost, and nothing stays behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep);

$ENV{TEST_TIME_LIMIT} ||= 600;
alarm $ENV{TEST_TIME_LIMIT};

my $t = Test::RequestCpu->new;
my $copy = $t->dir . '/copy.so';
copy($t->{module}, $copy) or die "cannot copy the module: $!\n";
chmod 0755, $copy;
mkdir $t->dir . '/state';
my $state = $t->dir . '/state/hosts';
my $log = $t->dir . '/traffic.log';

# What a configuration can be:
my %is = (
    n => 'not loaded',
    l => 'loaded and unused',
    u => 'used',
    p => 'used from another path',
    h => 'loaded, without http',
);
my $generation = 0;

sub config {
    my ($what) = @_;
    $generation++;
    my $user = $> == 0 ? 'user root;' : '';
    my $load = { n => '', p => "load_module $copy;" }->{$what};
    $load = 'load_module {{module}};' unless defined $load;
    my $main = "$load\n$user\nworker_processes 1;\nevents { }\n";
    return $main if $what eq 'h';
    my $used = $what =~ /[up]/;
    my $zone = $used ? <<'EOC' : '';
    request_cpu_zone $host zone=hosts:1m state=state/hosts;
    request_cpu zone=hosts;
    request_cpu_log traffic.log zone=hosts interval=1h;
EOC
    my $status = $used ? <<'EOC' : '';
    server {
        listen 127.0.0.1:{{port:status}};
        request_cpu off;
        location / { request_cpu_status; }
    }
EOC
    return <<"EOC";
$main
http {
    access_log off;
$zone
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 200 "$generation\\n"; }
    }
$status
}
EOC
}

# Requests that were counted: those that a configuration with zones has answered. While a reload is waited for, that may be
# the one before.
my (@what, $counted);

sub ask {
    my $answer = eval { $t->get('/', host => 'a.test', timeout => 5) } or return 0;
    my ($by) = $answer->{body} =~ /^(\d+)$/ or return 0;
    $counted++ if $what[$by] =~ /[up]/;
    return $by;
}

sub requests { return eval { $t->account('hosts', 'a.test')->{requests} } || 0 }

sub logged { return sum(map { /"requests":(\d+)/ ? $1 : 0 } split /\n/, $t->slurp($log)) }

# What a process keeps of the module: shared memory, locks, open files.
sub kept {
    my ($pid) = @_;
    return grep { /request_cpu|\.lock$|traffic\.log/ } map { readlink || () } glob "/proc/$pid/fd/*";
}

# Which copies of the module a process has mapped.
sub mapped {
    my ($pid) = @_;
    my %seen = map { $_ => 1 } $t->slurp("/proc/$pid/maps") =~ m{(\S*(?:copy|ngx_http_request_cpu_module)\.so)$}mg;
    return sort keys %seen;
}

my %copies = (n => [], p => [$copy], map { $_ => [$t->{module}] } qw(l u h));

# What holds when a configuration is in use.
sub faults {
    my ($what) = @_;
    my @wrong;
    if ($what ne 'h') {
        wait_until(10, sub { ask() == $generation }) or push @wrong, 'the new configuration does not answer';
        ask() for 1 .. 2;
    }
    if ($what =~ /[up]/) {
        wait_until(10, sub { requests() == $counted }) or push @wrong, 'counted ' . requests() . " of $counted requests";
    } else {
        wait_until(10, sub { logged() == $counted }) or push @wrong, 'the log tells of ' . logged() . " of $counted requests";
        wait_until(10, sub { !kept($t->master) }) or push @wrong, join ' ', 'it keeps', kept($t->master);
    }
    my $copies = join ' ', @{ $copies{$what} };
    wait_until(10, sub { join(' ', mapped($t->master)) eq $copies }) or push @wrong, join ' ', 'it maps', mapped($t->master);
    push @wrong, grep { /\[(?:alert|emerg|crit)\]|exited on signal/ } split /\n/, $t->error_log;
    return @wrong;
}

sub fresh {
    my ($what) = @_;
    unlink $log, glob "$state*";
    unlink $t->dir . '/error.log';
    ($counted, @what) = (0);
    ($generation, $what[1]) = (0, $what);
    return (raw => config($what), main => 'worker_processes 1;');
}

sub next_config { my ($what) = @_; $what[$generation + 1] = $what; return (raw => config($what)) }

# A walk through all sequences of so many states: an Eulerian path through the sequences that are one shorter.
sub walk {
    my ($states, $length) = @_;
    my @heads = ('');
    @heads = map { my $head = $_; map { "$head$_" } @$states } @heads for 2 .. $length;
    my %next = map { $_ => [@$states] } @heads;
    my (@stack, @path) = ($heads[0]);
    while (@stack) {
        my $at = $stack[-1];
        my $state = pop @{ $next{$at} };
        if (defined $state) { push @stack, substr("$at$state", 1) }
        else                { unshift @path, pop @stack }
    }
    return (split(//, shift @path), map { substr $_, -1 } @path);
}

my @states = sort keys %is;

# Every sequence of three reloads
{
    my @walk = walk(\@states, 3);
    my %seen = map { join('', @walk[$_ .. $_ + 2]) => 1 } 0 .. $#walk - 2;
    is(keys %seen, 125, 'a walk has every sequence of three states');
    my $last = shift @walk;
    $t->start(fresh($last));
    my $master = $t->master;
    my %failed = (faults($last) ? ("start as $is{$last}" => 1) : ());
    for my $what (@walk) {
        my $step = "$is{$last}, then $is{$what}";
        my $done = $t->reload(next_config($what));
        my @wrong = ($done ? () : ('the reload is not done'), kill(0, $master) ? faults($what) : 'the master is gone');
        if (@wrong) {
            $failed{$step} = 1;
            diag("$step (@what[1 .. $#what]): @wrong");
            last unless $done && kill(0, $master);
        }
        $last = $what;
    }
    is_deeply([ sort keys %failed ], [], 'each reload of the walk: NGINX lives, counts, and loses nothing');
    is($t->master, $master, 'it is the same master');
    is($t->stop, 0, 'it ends by itself');
    is(logged(), $counted, 'the log tells of all requests');
    $t->done(more => 1, no_books => 1);
}

# Every state as the first one, then the module in use by the first reload
for my $what (@states) {
    $t->start(fresh($what));
    my @wrong = faults($what);
    $t->reload(next_config('u')) or push @wrong, 'the reload is not done';
    push @wrong, faults('u');
    is_deeply(\@wrong, [], "a start, $is{$what}, then used");
    is($t->stop, 0, 'it ends by itself');
    is(logged(), $counted, 'the log tells of all requests');
}

# Every pair of states, by a binary upgrade
{
    my @walk = walk(\@states, 2);
    my $last = shift @walk;
    $t->start(fresh($last), daemon => 1);
    my %failed;
    for my $what (@walk) {
        my $step = "$is{$last}, then $is{$what}";
        my $done = $t->upgrade(next_config($what));
        my $retired = $done ? $t->retire : '';
        my @wrong = (!$done ? 'no new binary' : $retired ? "the old master leaves $retired" : (), faults($what));
        if (@wrong) {
            $failed{$step} = 1;
            diag("$step (@what[1 .. $#what]): @wrong");
            last unless $done;
        }
        $last = $what;
    }
    is_deeply([ sort keys %failed ], [], 'each upgrade of the walk: NGINX lives, counts, and loses nothing');
    is($t->stop, 0, 'it ends by itself');
    is(logged(), $counted, 'the log tells of all requests');
}

$t->done(no_books => 1);
