# Slots of processes that seem to have requests in flight: of a process whose number was given to another process, and
# of a killed process that its parent has not waited for yet. Both are found dead. A living process is left alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new;
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server { listen 127.0.0.1:{{port:http}}; location / { return 200 "x"; } }
EOC

# Positions in the memory of the zone (accounting/src/table.rs): the number of used slots, and the slots. A slot is a
# word: 22 bits for the process ID, and above them the start time.
my ($used_at, $places_at) = (68, 128);

sub memory {
    my ($fd) = grep { (readlink || '') =~ /^\/memfd:request_cpu:hosts / } glob '/proc/' . $t->master . '/fd/*';
    open my $memory, '+<', $fd or die "$fd: $!\n";
    binmode $memory;
    return $memory;
}

sub place {
    my ($number, $value) = @_;
    my $memory = memory();
    seek $memory, $places_at + 8 * $number, 0;
    if (defined $value) { print {$memory} pack 'Q', $value; return }
    read $memory, my $word, 8;
    return unpack 'Q', $word;
}

sub started { my ($pid) = @_; return (split ' ', $t->slurp("/proc/$pid/stat") =~ s/.*\) //sr)[19] }

my $worker = $t->worker;
is(place(0), started($worker) << 22 | $worker, 'the worker is known by its number and its start');

my $zombie = fork;
if (!$zombie) { exec 'true' or POSIX::_exit(1) }
ok(wait_until(60, sub { $t->slurp("/proc/$zombie/stat") =~ /\) Z / }),
    'a process that has ended, and whose parent has not noted it');

place(1, started($$) << 22 | $$);
place(2, started($$) - 1 << 22 | $$);
place(3, started($zombie) << 22 | $zombie);
my $memory = memory();
seek $memory, $used_at, 0;
print {$memory} pack 'L', 4;
close $memory;

my $found = sub { $t->get('/'); return !place(2) && !place(3) };
ok(wait_until(60, $found), 'one with the number of another process, and that one, are found dead');
is(place(1), started($$) << 22 | $$, 'and one that lives is not');
is(place(0), started($worker) << 22 | $worker, 'nor is the worker itself');
waitpid $zombie, 0;
$t->done;
