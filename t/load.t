# Reloads and binary upgrades load the module, leave it unused, use it, replace it by a copy from another path and
# remove it, in any order. NGINX keeps running, no count is lost, and nothing is left behind.

use strict;
use warnings;

BEGIN { $ENV{TEST_TIME_LIMIT} ||= 900 }    # more than two hundred reloads

use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Preload;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('load_module');
my $copy = $t->dir . '/copy.so';
copy($t->{module}, $copy) or die "cannot copy the module: $!\n";
chmod 0755, $copy;
mkdir $t->dir . '/state';
my $state = $t->dir . '/state/hosts';
my $log = $t->dir . '/traffic.log';

# States of a configuration:
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
    request_cpu_log traffic.log zone=hosts interval=3660d;
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
        location /large { root {{dir}}/html; rewrite ^/large(.*)\$ \$1 break; limit_rate_after 100k; limit_rate 2m; }
    }
$status
}
EOC
}

# Requests that were counted: requests answered by a configuration with zones. While the test waits for a reload, the
# previous configuration may answer.
my (@what, $counted);

sub ask {
    my $answer = eval { $t->get('/', host => 'a.test', timeout => 5) } or return 0;
    my ($by) = $answer->{body} =~ /^(\d+)$/ or return 0;
    $counted++ if $what[$by] =~ /[up]/;
    return $by;
}

sub requests { return eval { $t->account('hosts', 'a.test')->{requests} } || 0 }

sub logged { return sum(map { /"requests":(\d+)/ ? $1 : 0 } split /\n/, $t->slurp($log)) }

# The module's resources in a process: shared memory, locks, open files.
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

# Checks that must pass with this configuration.
sub faults {
    my ($what) = @_;
    my @wrong;
    if ($what ne 'h') {
        wait_until(60, sub { ask() == $generation }) or push @wrong, 'the new configuration does not answer';
        ask() for 1 .. 2;
    }
    if ($what =~ /[up]/) {
        wait_until(60, sub { requests() == $counted })
            or push @wrong, 'counted ' . requests() . " of $counted requests";
    } else {
        wait_until(60, sub { logged() == $counted })
            or push @wrong, 'the log tells of ' . logged() . " of $counted requests";
        wait_until(60, sub { !kept($t->master) }) or push @wrong, join ' ', 'it keeps', kept($t->master);
    }
    my $copies = join ' ', @{ $copies{$what} };
    wait_until(60, sub { join(' ', mapped($t->master)) eq $copies })
        or push @wrong, join ' ', 'it maps', mapped($t->master);
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

# A walk that contains all sequences of so many states: an Eulerian path through the sequences that are one state
# shorter.
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
    $t->done(more => 1, no_totals => 1);
}

# Every state at the start, then a first reload to a configuration that uses the module
for my $what (@states) {
    $t->start(fresh($what));
    my @wrong = faults($what);
    $t->reload(next_config('u')) or push @wrong, 'the reload is not done';
    push @wrong, faults('u');
    is_deeply(\@wrong, [], "a start, $is{$what}, then used");
    is($t->stop, 0, 'it ends by itself');
    is(logged(), $counted, 'the log tells of all requests');
}

# A failed reload leaves nothing behind, at whatever point it fails
{
    $t->start(fresh('n'));
    my $server = $t->connect('http');    # its address, taken by this connection's other end
    my %broken = (
        'an unknown zone' => sub { $_[0] =~ s/request_cpu zone=hosts;/request_cpu zone=hosts zone=none;/r },
        'an unknown directive after the module was used' => sub { $_[0] =~ s/(location \/ \{)/unknown_directive; $1/r },
        'a zone that is too large for the machine' => sub { $_[0] =~ s/zone=hosts:1m/zone=hosts:4000000000m/r },
        'a state file of something else' => sub { $_[0] =~ s{state/hosts}{nginx.pid}r },
        'an address that cannot be had' => sub { $_[0] =~ s/listen 127.0.0.1:/listen 192.0.2.1:/r },
    );
    for my $what (sort keys %broken) {
        my $config = $broken{$what}->(config('u'));
        $generation--;
        $t->_write_config(raw => $config);
        my $refused = () = $t->error_log =~ /\[(?:emerg|alert)\]/g;
        kill HUP => $t->master;
        my $said = wait_until(60, sub { (() = $t->error_log =~ /\[(?:emerg|alert)\]/g) > $refused });
        ok($said && kill(0, $t->master), "a reload with $what is refused");
        # the message is written before the resources are released
        my @left;
        wait_until(60, sub { @left = (kept($t->master), mapped($t->master), glob("$state*")); return !@left });
        is_deeply(\@left, [], 'and leaves no memory, no descriptor, no library and no lock');
    }
    $server->close;
    $t->expect_log(qr/unknown zone "none"|unknown directive|mmap|state file|bind\(\)|no memory|Cannot allocate/);
    $t->reload(next_config('u')) or fail('a reload after that');
    unlink $t->dir . '/error.log';
    kill USR1 => $t->master;
    wait_until(60, sub { -e $t->dir . '/error.log' });
    is_deeply([ faults('u') ], [], 'a reload that is right is done');
    is($t->stop, 0, 'it ends by itself');
}

# A request that ends after the module was removed or replaced
$t->html('large.bin', 'x' x 4_000_000);
for my $what (qw(n l h p)) {
    $t->start(fresh('u'));
    my @wrong = faults('u');
    my $slow = $t->connect('http');
    $slow->request('/large/large.bin', host => 'a.test', close => 1);
    wait_until(60, sub { ($t->account('hosts', 'a.test')->{in_flight} || 0) == 1 })
        or push @wrong, 'it is not in flight';
    $t->_write_config(next_config($what));
    kill HUP => $t->master;
    wait_until(60, sub { $t->workers(old => 1) }) or push @wrong, 'no worker finishes';
    my $answer = $slow->response;
    push @wrong, 'the answer is not whole' if length $answer->{body} != 4_000_000;
    $slow->close;
    $counted++;
    wait_until(60, sub { !$t->workers(old => 1) }) or push @wrong, 'the worker stays';
    push @wrong, faults($what);
    $t->reload(next_config('u')) or push @wrong, 'the reload is not done';
    push @wrong, faults('u');
    is_deeply(\@wrong, [], "a request ends after the module was $is{$what}");
    is($t->stop, 0, 'it ends by itself');
    is(logged(), $counted, 'the log tells of all requests');
}

# The module is removed while its disk hangs: the master continues, even when the disk answers later
SKIP: {
    my $before = hanging_fsync($t, 6) or skip('there is no compiler here', 4);
    $t->start(fresh('u'), before => $before);
    is_deeply([ faults('u') ], [], 'a disk that hangs: the module is used');
    ok($t->reload(next_config('n')), 'it is taken away');
    ok(wait_until(60, sub { $t->error_log =~ /\[error\].*takes too long/ }),
        'the log of before says that the file is not waited for');
    # if the remaining thread could continue, it would run code that NGINX has unloaded
    wait_until(60, sub { !grep { $t->slurp("$_/comm") =~ /request_cpu/ } glob '/proc/' . $t->master . '/task/*' })
        or fail('the thread stays');
    wait_until(60, sub { ask() == $generation });
    ok(kill(0, $t->master), 'the master lives when the disk answers');
    is($t->stop(within => 30), 0, 'it ends by itself');
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

$t->done(no_totals => 1);
