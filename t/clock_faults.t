# A clock of CPU time that fails, or that advances in large steps. NGINX logs this when it starts, and the sums are
# still close to what the kernel counts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Preload;

# FAULT is fails, coarse, stands or getres
my $source = <<'EOC';
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int fault(const char *name) { const char *f = getenv("FAULT"); static char kept[16];
    if (!*kept) strncpy(kept, f ? f : "none", 15); return strcmp(kept, name) == 0; }
static int is_cpu(clockid_t id) { return id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID; }
__attribute__((constructor)) static void begin(void) { fault(""); }

int clock_gettime(clockid_t id, struct timespec *t) {
    if (is_cpu(id) && fault("fails")) { errno = EINVAL; return -1; }
    int rc = syscall(SYS_clock_gettime, id, t);
    if (rc == 0 && is_cpu(id) && fault("coarse")) t->tv_nsec = t->tv_nsec / 10000000 * 10000000;
    if (rc == 0 && is_cpu(id) && fault("stands")) { t->tv_sec = 1; t->tv_nsec = 0; }
    return rc;
}

int clock_getres(clockid_t id, struct timespec *t) {
    int rc = syscall(SYS_clock_getres, id, t);
    if (rc == 0 && t && is_cpu(id) && fault("getres")) { t->tv_sec = 0; t->tv_nsec = 4000000; }
    return rc;
}
EOC

my $t = Test::RequestCpu->new->need('cpu_time');
defined preload($t, 'clock', $source) or plan skip_all => 'there is no compiler here';

sub start {
    my ($clock, $fault) = @_;
    unlink $t->dir . '/error.log';
    $t->start(main => 'worker_processes 2;', before => preload($t, 'clock', $source, FAULT => $fault), log => 0,
        http => <<"EOC");
    request_cpu_clock $clock;
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { @{[ burn_rules(1) ]} return 200 "burnt\\n"; }
    }
EOC
}

sub warnings { return grep { /\[warn\].*(?:clock|CLOCK_)/ } split /\n/, $t->error_log }

# The CPU that was added to the accounts, and the CPU of the workers by the kernel's count.
sub use_cpu {
    my ($requests) = @_;
    my $kernel = sub { return sum(map { $t->sched_ns($_) } $t->workers) };
    my $before = $kernel->();
    $t->get('/?x=' . burn_text(16), host => 'burnt.test') for 1 .. $requests;
    $t->account_with('hosts', 'burnt.test', $requests);
    my $account = $t->account('hosts', 'burnt.test');
    return ($account->{cpu_ns}, $kernel->() - $before);
}

for my $clock ('hybrid', 'thread') {
    start($clock, 'none');
    is_deeply([ warnings() ], [], "$clock: nothing is said of a clock that is right");
    is($t->stop, 0, 'stop');

    start($clock, 'fails');
    my @warnings = warnings();
    is(scalar @warnings, 1, "$clock: a clock that fails is warned of once, whatever the number of workers");
    like($warnings[0], qr/CLOCK_THREAD_CPUTIME_ID\) failed: Invalid argument.*getrusage\(\).*single request/,
        'in words');
    my ($account_ns, $kernel_ns) = use_cpu(300);
    cmp_ok($account_ns, '>', 0.5 * $kernel_ns, 'the CPU of many requests is counted nevertheless')
        or diag("$account_ns of $kernel_ns");
    cmp_ok($account_ns, '<', 1.1 * $kernel_ns, 'and not more than there was');
    is($t->stop, 0, 'stop');

    start($clock, 'coarse');
    @warnings = warnings();
    is(scalar @warnings, 1, "$clock: one with steps of 10 ms is warned of");
    like($warnings[0], qr/advances in steps of 10\.000 ms.*single request.*sums over many requests/, 'in words');
    ($account_ns, $kernel_ns) = use_cpu(300);
    cmp_ok($account_ns, '>', 0.5 * $kernel_ns, 'and so are sums') or diag("$account_ns of $kernel_ns");
    is($t->stop, 0, 'stop');
}

start('hybrid', 'getres');
like(join("\n", warnings()), qr/steps of 4\.000 ms/, 'the resolution that the clock reports counts');
is($t->stop, 0, 'stop');

start('hybrid', 'stands');
like(join("\n", warnings()), qr/stands still.*shown as 0/, 'a clock that stands is warned of');
is($t->get('/', host => 'burnt.test')->{status}, 200, 'and requests are served');
$t->done(no_totals => 1);
