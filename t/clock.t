# Both clocks charge what the kernel counts. The hybrid clock asks the kernel less often.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;

my ($processor) = reverse Test::RequestCpu->new->processors;
my $can_pin = system('taskset -p $$ >/dev/null 2>&1') == 0;
my @clocks = ('thread', 'hybrid', 'hybrid max_error=1us', 'hybrid max_error=10ms', 'hybrid without rseq');
my %max_error_ns = ('thread' => 0, 'hybrid' => 20_000, 'hybrid max_error=1us' => 1_000,
    'hybrid max_error=10ms' => 10_000_000);

my %server;
for my $case (@clocks) {
    my $clock = $case;
    # then glibc does not register rseq(2), and the kernel cannot mark that the thread was switched out
    my $blind = $clock =~ s/ without rseq//;
    my $t = $server{$case} = Test::RequestCpu->new;
    $t->html('a.txt', "plain\n");
    $t->start(before => [ 'env', $blind ? 'GLIBC_TUNABLES=glibc.pthread.rseq=0' : 'BLIND=0' ],
        main => $can_pin ? $t->affinity($processor) : '', http => <<"EOC");
        request_cpu_clock $clock;
        request_cpu_zone \$server_name zone=domains:1m;
        request_cpu zone=domains;
        keepalive_requests 100000;
        server {
            listen 127.0.0.1:{{port:http}};
            server_name clock.test;
            location / { }
            location = /burn { @{[ burn_rules(2) ]} return 200 "burnt\\n"; }
        }
EOC
    my $status = $t->status;
    is($status->{clock}, (split / /, $clock)[0], "$case: its name");
    is($status->{max_error_ns}, $max_error_ns{$clock}, "$case: its largest error");

    # Long laps, alone and beside a loop that takes half of the processor
    my $burn = sub { $t->get('/burn?x=' . burn_text(20), host => 'clock.test') for 1 .. 3 };
    for my $kind ('alone', $can_pin ? 'beside a busy loop' : ()) {
        my $loop = $kind eq 'alone' ? undef : $t->spawn('taskset', '-c', $processor, $^X, '-e', '1 while 1');
        my ($before) = @{ $t->status->{workers} };
        my $used = $t->measured($burn);
        my ($after) = @{ $t->status->{workers} };
        $loop->end if $loop;
        within($after->{charged_ns} - $before->{charged_ns}, $used, 0.97, 1.03,
            "$case, $kind: charged what the kernel counts");
    }
}

# Short laps without a pause between them: the CPU that was charged and that of the loop, the CPU that the kernel
# counted, and the readings of the thread clock per request. There are so many requests that the status requests
# hardly matter.
my $pipelined = 3000;
my (%asked, %good, %sum, %used);
sub short_laps {
    my ($case) = @_;
    my $t = $server{$case};
    my $text = Test::RequestCpu::Connection->request_text('/a.txt', host => 'clock.test');
    my ($before) = @{ $t->status->{workers} };
    $used{$case} += $t->measured(sub {
        my $connection = $t->connect('http');
        $connection->send($text);
        my $answer = $connection->response;
        my $length = length($answer->{raw}) + length $answer->{body};
        my $sender = detached(sub { $connection->send($text x 10) for 1 .. $pipelined / 10; 1 });
        my $answers = $connection->read_bytes($pipelined * $length);
        $good{$case} += () = $answers =~ m{^HTTP/1\.1 200 }mg;
        $sender->result;
    });
    my ($after) = @{ $t->status->{workers} };
    $asked{$case} += $pipelined;
    $sum{$case} += $after->{charged_ns} - $before->{charged_ns} + $after->{loop_ns} - $before->{loop_ns};
    return ($after->{clock_readings} - $before->{clock_readings}) / ($pipelined + 1);
}

# A long lap, and a lap in which the thread is switched out, need one more reading. Both happen more often on a busy
# machine.
my %readings;
@readings{@clocks} = least(sub {
    my %least;
    @least{@clocks} = @_;
    return $least{'hybrid max_error=1us'} > $least{'hybrid max_error=10ms'} && $least{hybrid} < $least{thread} / 4
        && $least{hybrid} < $least{'hybrid without rseq'};
}, map { my $case = $_; sub { short_laps($case) } } @clocks);
for my $case (@clocks) {
    is($good{$case}, $asked{$case}, "$case: pipelined requests are answered");
    within($sum{$case}, $used{$case}, 0.95, 1.05, "$case: short laps add up to what the kernel counts");
    $server{$case}->done(more => 1);
}

cmp_ok($readings{thread}, '>=', 2, 'the thread clock is read at least twice for a request');
cmp_ok($readings{'hybrid max_error=1us'}, '>', $readings{'hybrid max_error=10ms'},
    'a smaller error takes more readings');
SKIP: {
    # without rseq(2), the thread clock is read whenever short laps reach its largest error
    skip('a debug log makes every lap a long one', 2) if ($ENV{TEST_LOG_LEVEL} || '') eq 'debug';
    skip('switches of the thread cannot be seen here', 2) if `getconf GNU_LIBC_VERSION` !~ /glibc 2\.(\d+)/ || $1 < 35;
    cmp_ok($readings{hybrid}, '<', $readings{thread} / 4, 'the hybrid clock reads it more seldom');
    cmp_ok($readings{hybrid}, '<', $readings{'hybrid without rseq'}, 'and where switches are not seen, less so');
}
diag(join ', ', map { sprintf "%s: %.3f", $_, $readings{$_} } @clocks) if $ENV{TEST_VERBOSE};
done_testing();
