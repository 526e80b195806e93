# A zone gets more keys than it has room for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Connection;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->start(main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$arg_k zone=small:32k;
    request_cpu_zone \$arg_k zone=large:8m;
    request_cpu zone=small zone=large;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
    }
EOC

sub ask {
    my (@keys) = @_;
    my $connection = $t->connect('http');
    my $fine = 0;
    while (my @some = splice @keys, 0, 50) {
        $connection->send(join '', map { Test::RequestCpu::Connection->request_text("/a.txt?k=$_") } @some);
        for (@some) { $fine++ if $connection->response->{status} == 200 }
    }
    $connection->close;
    return $fine;
}

# The status without breakdowns: Perl would take seconds to read everything of thousands of keys.
sub low { return $t->status('detail=low') }
sub requests {
    my ($zone, $key, $least) = @_;
    my $requests;
    wait_until(60, sub { $requests = $t->status("zone=$zone&key=$key")->{zones}{$zone}{keys}{$key}{requests};
        return $requests >= $least });
    return $requests;
}

is(ask(map { "early$_" } 1 .. 3), 3, 'three keys find room');
wait_until(60, sub { sum(map { $_->{requests} } values %{ $t->status->{zones}{small}{keys} }) == 3 });
is($t->status->{zones}{small}{overflowed}, 0, 'nothing overflows yet');

my $keys = 3000;
is(ask(map { "k$_" } 1 .. $keys), $keys, 'no request fails in a flood of keys');

my $status;
wait_until(60, sub { $status = low(); sum(map { $_->{requests} } values %{ $status->{zones}{small}{keys} })
    == $keys + 3 });
my ($small, $large) = @{ $status->{zones} }{qw(small large)};
cmp_ok($small->{accounts}, '<', $keys, 'the small zone has less accounts than there are keys');
cmp_ok($small->{accounts}, '>', 10, 'but some');
is($small->{accounts}, scalar(grep { $_ ne '*' } keys %{ $small->{keys} }),
    'which are shown, the overflow account aside');
cmp_ok($small->{capacity}, '<', $keys, 'its capacity says so beforehand');
cmp_ok($small->{accounts}, '<=', $small->{capacity}, 'and is kept');
cmp_ok($small->{used_bytes}, '<=', $small->{size_bytes}, 'so is its size');
is($small->{size_bytes}, 32768, 'which is that of the configuration');
cmp_ok($small->{overflowed}, '>', 0, 'keys without room are counted as overflowed');
ok($small->{keys}{'*'}, 'and has an account of its own');
is(sum(map { $_->{requests} } values %{ $small->{keys} }), $keys + 3, 'nothing is lost');
cmp_ok($small->{keys}{'*'}{cpu_ns}, '>', 0, 'CPU neither');
is($small->{keys}{"early$_"}{requests}, 1, "early$_ keeps its account") for 1 .. 3;

is(scalar(keys %{ $large->{keys} }), $keys + 3, 'the large zone has an account for every key');
is($large->{overflowed}, 0, 'and nothing overflowed');
ok(!$large->{keys}{'*'}, 'nor is there an overflow account');
my @cpu = map { my $zone = $_; sum(map { $_->{cpu_ns} } values %{ $zone->{keys} }) } $small, $large;
within($cpu[0], $cpu[1], 0.95, 1.05, 'both zones have the same CPU in sum');

# Keys that have an account continue with it, and so does the overflow account.
ask('early1', 'fresh1', 'fresh2');
is(requests('small', 'early1', 2), 2, 'a key with an account is counted there, full or not');
is(requests('small', '*', $small->{keys}{'*'}{requests} + 2), $small->{keys}{'*'}{requests} + 2,
    'a new one in the overflow account');

# A key "*" is counted in the overflow account
ask('*', '*');
is(requests('small', '*', $small->{keys}{'*'}{requests} + 4), $small->{keys}{'*'}{requests} + 4,
    'a key named * is counted in the overflow account');
is(requests('large', '*', 2), 2, 'also where there is room');

my @warnings = grep { /\[warn\].*small/ } split /\n/, $t->error_log;
cmp_ok(scalar @warnings, '>=', 1, 'a full zone is warned of');
# at most one in a minute by each of two workers
cmp_ok(scalar @warnings, '<=', 2, 'but not for every request');

# A reload keeps it as it is
ok($t->reload, 'reload');
is(requests('small', 'early2', 1), 1, 'a full zone survives a reload');
ask('early2', 'fresh3');
is(requests('small', 'early2', 2), 2, 'and goes on');

wait_until(60, sub { !$t->workers(old => 1) });
$t->done(query => 'zone=small');
