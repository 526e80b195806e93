# An allocator that replaces libc's and has no malloc_usable_size(). NGINX serves, and memory of unknown size is not
# counted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Preload;
use Test::RequestCpu::Upstream;

# Takes memory from the system and never returns it. The page before each piece of memory cannot be read.
my $source = <<'EOC';
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define MANY 1000000
#define PAGE ((size_t)4096)
/* pieces of whole pages; nobody but us can know their sizes */
static struct { void *at; size_t n; } large[MANY];
static size_t count;

static void *fresh(size_t n) {
    void *at = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? 0 : at;
}

static void *piece(size_t n, size_t align) {
    size_t room = (n + PAGE - 1) & ~(PAGE - 1), spare = PAGE + (align > PAGE ? align : 0);
    char *base = fresh(room + spare);
    if (!base || count == MANY) return 0;
    uintptr_t at = (uintptr_t)base + PAGE;
    if (align > PAGE) at = (at + align - 1) & ~(uintptr_t)(align - 1);
    mprotect((char *)at - PAGE, PAGE, PROT_NONE);
    size_t place = __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    large[place].n = n;
    large[place].at = (void *)at;
    return (void *)at;
}

void *malloc(size_t n) {
    static __thread char *from;
    static __thread size_t left;
    n = (n + 15) & ~(size_t)15;
    if (n >= PAGE) return piece(n, 0);
    if (left < n + 16) {
        if (!(from = fresh(1 << 20))) return 0;
        left = 1 << 20;
    }
    char *p = from + 16;
    from += n + 16, left -= n + 16;
    *(size_t *)(p - 16) = n;
    return p;
}
static size_t size_of(void *p) {
    if (((uintptr_t)p & (PAGE - 1)) == 0)
        for (size_t place = count; place--;) if (large[place].at == p) return large[place].n;
    return *(size_t *)((char *)p - 16);
}
void free(void *p) { (void)p; }
void *calloc(size_t a, size_t b) { return malloc(a * b); }
void *memalign(size_t align, size_t n) { return piece(n ? n : 1, align); }
int posix_memalign(void **p, size_t align, size_t n) { *p = memalign(align, n); return *p ? 0 : ENOMEM; }
void *aligned_alloc(size_t align, size_t n) { return memalign(align, n); }
void *realloc(void *p, size_t n) {
    void *q = malloc(n);
    if (p && q) { size_t before = size_of(p); memcpy(q, p, before < n ? before : n); }
    return q;
}
EOC

my $t = Test::RequestCpu->new->need('proxy');
my $before = preload($t, 'bump', $source);
plan skip_all => 'there is no compiler here' if !defined $before;

my $body = 'x' x 300_000;
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection) = @_;
    $connection->send('HTTP/1.1 200 OK' . "\r\nConnection: close\r\nContent-Length: " . length($body)
        . "\r\n\r\n$body");
    return 0;
});

sub notices { return scalar grep { /\[notice\].*malloc_usable_size/ } split /\n/, $t->error_log }

sub start {
    unlink $t->dir . '/error.log';
    $t->start(main => 'worker_processes 2;', @_, http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { proxy_pass http://127.0.0.1:{{port:upstream}}; proxy_buffers 8 64k; }
    }
EOC
}

start();
is(notices(), 0, 'with the allocator of libc nothing is said');
is($t->stop, 0, 'stop');

start(before => $before);
is(notices(), 1, 'that sizes are not known is said once');
for (1 .. 3) {
    my $answer = $t->get('/', host => 'big.test');
    is($answer->{status}, 200, 'a large answer of an upstream');
    is(length $answer->{body}, length $body, 'comes as a whole');
}
is($t->account_with('hosts', 'big.test', 3)->{requests}, 3, 'and is counted');
$t->done;
