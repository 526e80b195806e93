# Reloads and binary upgrades under load. A request fails only if the same NGINX without the module would fail it too,
# and counters continue.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use POSIX ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Torture;
use Time::HiRes qw(sleep time);

my ($reloads, $upgrades, $workers) = (50, 3, 2);

# NGINX accepts WINCH only as a daemon (ngx_signal_handler), and a daemon is an orphan. With PR_SET_CHILD_SUBREAPER,
# orphans become children of this process.
my $prctl = { x86_64 => 157, aarch64 => 167 }->{ (POSIX::uname())[4] }
    or plan(skip_all => 'no binary upgrade on this machine');
syscall($prctl, 36, 1, 0, 0, 0) == 0 or plan(skip_all => "no binary upgrade here: $!");

sub start {
    my ($t, %part) = @_;
    $t->{part} = \%part;
    $t->_write_config(%part);
    run_command($t->{binary}, '-p', $t->dir . '/', '-e', $t->dir . '/error.log', '-c', $t->dir . '/nginx.conf');
    $t->{pid} = wait_until(15, sub { pid_in($t, 'nginx.pid') }) or die "NGINX did not start\n" . $t->error_log;
    wait_until(15, sub { $t->workers == $workers }) or die "NGINX has no workers\n";
}

sub pid_in { my ($t, $file) = @_; return $t->slurp($t->dir . "/$file") =~ /^(\d+)\n/ ? $1 : undef }

# As in NGINX's documentation: USR2, then WINCH and QUIT to the old master.
sub upgrade {
    my ($t) = @_;
    my $old = $t->master;
    kill USR2 => $old;
    wait_until(10, sub {
        my $new = pid_in($t, 'nginx.pid');
        return unless $new && $new != $old && pid_in($t, 'nginx.pid.oldbin');
        local $t->{pid} = $new;
        return $t->workers == $workers;
    }) or return;
    my $new = pid_in($t, 'nginx.pid');
    kill WINCH => $old;
    # the new master is also a child of the old one
    wait_until(10, sub { !grep { $_ != $new } keys %{ $t->processes } }) or return;
    kill QUIT => $old;
    wait_until(10, sub { waitpid($old, POSIX::WNOHANG()) == $old }) or return;
    $t->{pid} = $new;
    return 1;
}

# Two clients keep their connections, two open a new one for every request.
sub clients {
    my ($t) = @_;
    my $stop = $t->dir . '/stop';
    unlink $stop;
    my @clients = map {
        my $close = $_ % 2 ? "Connection: close\r\n" : '';
        detached(sub {
            my ($asked, $going) = (0, 1);
            my $seen = client($t,
                sub { $going = !-e $stop if $asked++ % 16 == 0; return $going },
                sub { ("GET /a.txt HTTP/1.1\r\nHost: load.test\r\n$close\r\n", 'all') },
            );
            # NGINX closes keep-alive connections when a worker ends, and a client then sends its request again
            return { failed => sum(@$seen{qw(cut hung refused wrong)}, $close ? $seen->{unanswered} || 0 : 0),
                again => $close ? 0 : $seen->{unanswered} || 0, complete => $seen->{complete}{all} || 0 };
        });
    } 1 .. 4;
    return sub {
        $t->write_file($stop, '');
        my @results = map { $_->result } @clients;
        return map { my $name = $_; $name => sum(map { $_->{$name} } @results) } qw(failed again complete);
    };
}

my %seen;
for my $module (0, 1) {
    my $name = $module ? 'with the module' : 'without the module';
    my $t = Test::RequestCpu->new(module => $module);
    $t->html('a.txt', "plain\n");
    my $cpu = $module ? "request_cpu_zone \$host zone=hosts:1m;\nrequest_cpu zone=hosts;" : '';
    start($t, main => "worker_processes $workers;", log => 0, http => <<"EOC");
    $cpu
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
    }
EOC
    my $finish = clients($t);
    my $done = 0;
    for (1 .. $reloads) { $done++ if $t->reload }
    my %reload = $finish->();
    is($done, $reloads, "$name: $reloads reloads");
    cmp_ok($reload{complete}, '>', 1000, "$name: under load");
    wait_until(10, sub { !$t->workers(old => 1) });
    $t->quiet;
    my $account = $module ? $t->account('hosts', 'load.test') : {};
    if ($module) {
        is($account->{requests}, $reload{complete}, 'every request of every generation of workers is counted, once');
        is($account->{in_flight}, 0, 'and none is in flight');
        is(scalar @{ $t->status->{workers} }, $workers, 'the totals are those of the serving workers');
    }

    $finish = clients($t);
    $done = 0;
    for (1 .. $upgrades) { sleep 0.3; $done++ if upgrade($t) }
    my %upgrade = $finish->();
    is($done, $upgrades, "$name: $upgrades binary upgrades");
    $t->quiet;
    if ($module) {
        cmp_ok($reload{failed}, '<=', $seen{failed}[0],
            'reloads: no request fails that would not fail without the module');
        cmp_ok($upgrade{failed}, '<=', $seen{failed}[1], 'upgrades: none either');
        my $after = $t->account('hosts', 'load.test');
        my $sum = $reload{complete} + $upgrade{complete};
        TODO: {
            local $TODO = 'accounts are not handed over to a new binary yet' if $after->{requests} < $reload{complete};
            is($after->{requests}, $sum, 'counters go on over an upgrade');
        }
        figure('counters over a reload, over an upgrade',
            'go on, ' . ($after->{requests} == $sum ? 'go on' : 'start again (pending)'));
    } else {
        $seen{failed} = [ $reload{failed}, $upgrade{failed} ];
    }
    figure("$name: $reloads reloads: requests, failed, sent again",
        "$reload{complete}, $reload{failed}, $reload{again}");
    figure("$name: $upgrades upgrades: requests, failed, sent again",
        "$upgrade{complete}, $upgrade{failed}, $upgrade{again}");
    $t->done(more => 1);
}

done_testing();
