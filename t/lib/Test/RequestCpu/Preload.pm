package Test::RequestCpu::Preload;

# Libraries that replace functions of libc in a server (LD_PRELOAD), compiled for a test.

use strict;
use warnings;

use Exporter 'import';
use Test::RequestCpu;

our @EXPORT = qw(preload hanging_fsync);

# preload($t, $name, $source, ENVIRONMENT => VALUE …): returns the value of `before` for start(); undef if there is no
# compiler.
sub preload {
    my ($t, $name, $source, @environment) = @_;
    my $base = $t->dir . "/$name";
    if (!-e "$base.so") {
        $t->write_file("$base.c", $source);
        my ($status, $output) = run_command('cc', '-O1', '-shared', '-fPIC', '-o', "$base.so", "$base.c", '-ldl');
        return if $status != 0;
    }
    my @pairs;
    while (my ($key, $value) = splice @environment, 0, 2) { push @pairs, "$key=$value" }
    return [ '/usr/bin/env', "LD_PRELOAD=$base.so", @pairs ];
}

# A disk that hangs: fsync() takes so many seconds, even if signals come.
sub hanging_fsync {
    my ($t, $seconds) = @_;
    return scalar preload($t, 'hanging', <<'EOC', HANG_SECONDS => $seconds);
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned int seconds;

__attribute__((constructor)) static void start(void)
{
    seconds = atoi(getenv("HANG_SECONDS"));
}

int fsync(int fd)
{
    for (unsigned int left = seconds; left > 0; ) {
        left = sleep(left);
    }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
EOC
}

1;
