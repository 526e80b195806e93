# A disk that does not answer: neither the end of NGINX nor a reload waits long for the file of `state=`, whichever
# system call hangs. A library makes a system call wait as soon as a certain file exists.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Preload;
use Time::HiRes qw(time);

my $HANG = 45;    # seconds

my $source = <<"EOC";
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char begin_file[256], hangs[16];
__attribute__((constructor)) static void begin(void) {
    strncpy(begin_file, getenv("BEGIN_FILE"), 255);
    strncpy(hangs, getenv("HANGS"), 15);
}

static void wait_for(const char *call, const char *path) {
    // NGINX itself opens the log at a reload, and waits for that
    int is_ours = strstr(path, "/state/") || (strstr(path, "/traffic/") && strcmp(call, "open"));
    if (strcmp(call, hangs) || !is_ours || syscall(SYS_access, begin_file, F_OK)) return;
    for (int left = $HANG; left > 0; ) left = sleep(left);
}
static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, 64, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 511);
    path[n > 0 ? n : 0] = 0;
    return path;
}

int fsync(int fd) { char path[512]; wait_for("fsync", path_of(fd, path)); return syscall(SYS_fsync, fd); }
int unlink(const char *path) { wait_for("unlink", path); return syscall(SYS_unlink, path); }
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    wait_for("open", path);
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict found) {
    char its[512];
    wait_for("statx", path && *path ? path : path_of(at, its));
    return syscall(SYS_statx, at, path, flags, mask, found);
}
EOC

$ENV{TEST_TIME_LIMIT} ||= 400;
alarm $ENV{TEST_TIME_LIMIT};
my $t = Test::RequestCpu->new;
my $begin_file = $t->dir . '/begin';
defined preload($t, 'disk', $source) or plan skip_all => 'there is no compiler here';
mkdir $t->dir . "/$_" for qw(state traffic);

my $zone = <<'EOC';
    request_cpu_zone $host zone=hosts:1m state=state/hosts;
    request_cpu zone=hosts;
    request_cpu_log traffic/log zone=hosts interval=3660d;
EOC
my $server = <<'EOC';
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 200 "here\n"; }
    }
EOC

sub start {
    my ($hangs) = @_;
    unlink $begin_file, $t->dir . '/error.log', glob $t->dir . '/{state,traffic}/*';
    $t->start(before => preload($t, 'disk', $source, BEGIN_FILE => $begin_file, HANGS => $hangs), log => 0,
        http => "$zone$server");
    $t->get('/', host => 'one.test');
    $t->write_file($begin_file, '');
}

sub said { my ($what) = @_; return scalar grep { $_ =~ $what } split /\n/, $t->error_log }

for my $call (qw(fsync unlink open statx)) {
    start($call);
    my $began = time;
    is($t->stop(within => 60), 0, "$call hangs: NGINX ends");
    cmp_ok(time - $began, '<', $HANG - 5, 'before the disk answers');
    is(said(qr/\[error\].*takes too long|\[error\].*is not waited for/) > 0, 1, 'and says so');
}

for my $call (qw(unlink fsync)) {
    start($call);
    my $began = time;
    ok($t->reload(http => $server, status => 0), "$call hangs: a reload without the zone is done");
    cmp_ok(time - $began, '<', $HANG - 5, 'before the disk answers');
    is($t->stop(within => 60), 0, 'NGINX ends');
}

for my $call (qw(open statx)) {
    start($call);
    my @workers = $t->workers;
    my $began = time;
    kill HUP => $t->master;
    ok(wait_until($HANG - 5, sub { said(qr/\[emerg\].*state\/hosts".*its disk does not answer/) }),
        "$call hangs: a reload is refused, with a message");
    cmp_ok(time - $began, '<', $HANG - 5, 'before the disk answers');
    is_deeply([ $t->workers ], \@workers, 'the workers go on');
    is($t->get('/', host => 'one.test')->{status}, 200, 'and serve');
    is($t->stop(within => 60), 0, 'NGINX ends');
}

done_testing();
