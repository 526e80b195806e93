# Several limits of one key: each has its own bucket.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('rewrite');
$t->html($_, "plain\n")
    for qw(a.txt fast/a.txt slow/a.txt burn/a.txt five/1/a.txt five/2/a.txt five/3/a.txt five/4/a.txt five/5/a.txt);
my $burn = burn_rules(3);
my $five = join ' ', map { "location /five/$_/ { request_cpu_limit zone=z cores=0.01$_ burst=1ms; $burn }" } 1 .. 5;
sub configuration {
    my ($slow) = @_;
    return (main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$server_name zone=z:1m;
    request_cpu zone=z;
    request_cpu_limit_log_level info;
    server {
        listen 127.0.0.1:{{port:http}}; server_name one.test;
        location / { root html; }
        location /fast/ { request_cpu_limit zone=z cores=1000 burst=100s; $burn }
        location /slow/ { request_cpu_limit zone=z cores=$slow burst=1ms; $burn }
        location /burn/ { $burn }
        $five
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name other.test;
        location /fast/ { request_cpu_limit zone=z cores=1000 burst=100s; $burn }
        location /slow/ { request_cpu_limit zone=z cores=$slow burst=1ms; $burn }
        location /burn/ { $burn }
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name five.test;
        location / { root html; }
        $five
    }
EOC
}
$t->start(configuration('0.001'));

my $x = burn_text();
sub get {
    my ($uri, $host) = @_;
    my $status = $t->get($uri, host => $host // 'one.test')->{status};
    $t->quiet;
    return $status;
}
sub limit { my ($host) = @_; return $t->account('z', $host // 'one.test')->{limit} }
sub limits {
    my ($host) = @_;
    return { map { (0 + $_->{cores} => $_) } @{ $t->account('z', $host // 'one.test')->{limits} // [] } }
}

# Requests checked by one limit count only for that limit
is(get("/slow/a.txt?x=$x"), 200, 'slow: an expensive request is admitted');
is(get('/slow/a.txt'), 429, 'slow: the next one is not');
ok(!exists $t->account('z', 'one.test')->{limits}, 'one limit is shown as ever');
my $debt_ns = limit()->{debt_ns};
is(get('/fast/a.txt'), 200, "fast: another limit of the key lets it in") for 1 .. 5;
sleep 0.3;
is(get('/fast/a.txt'), 200, 'fast: also later');
is(get('/slow/a.txt'), 429, 'slow: which has not paid its debt');
within(limits()->{'0.001'}{debt_ns}, $debt_ns, 0.9, 1, 'slow: less the part that time has paid');
is(limits()->{1000}{debt_ns}, 0, 'fast: there is no debt');
is(limit()->{cores}, 0.001, 'the limit that was checked last is shown first');

# In the other direction
is(get('/slow/a.txt', 'other.test'), 200, 'slow: within the limit');
is(get("/fast/a.txt?x=$x", 'other.test'), 200, 'fast: an expensive request') for 1 .. 2;
is(get('/slow/a.txt', 'other.test'), 200, 'slow: is not in debt for it');
is(get("/burn/a.txt?x=$x", 'other.test'), 200, 'an expensive request that no limit checks');
is(get('/slow/a.txt', 'other.test'), 429, 'slow: is in debt for that one');

# After a reload, and in another worker
ok($t->reload, 'a reload');
is(get('/slow/a.txt', $_), 429, "$_: keeps the debt of one") for qw(one.test other.test);
is(get('/fast/a.txt', $_), 200, "$_: and of the other") for qw(one.test other.test);
is(scalar(keys %{ limits() }), 2, 'there are no more than before');
ok($t->reload(configuration('0.002')), 'a reload with another limit');
is(get('/slow/a.txt'), 429, 'goes on with the debt of the one before');
is_deeply([ sort { $a <=> $b } keys %{ limits() } ], [ 0.002, 1000 ], 'in its bucket');

# More limits than buckets
for (1 .. 3) {
    is(get("/five/$_/a.txt?x=$x", 'five.test'), 200, "limit $_ of five: a dear request");
    is(get("/five/$_/a.txt", 'five.test'), 429, "limit $_ of five: is refused after it");
}
is(get('/five/4/a.txt', 'five.test'), 200, 'limit 4 of five: has a bucket of its own');
is(get("/five/4/a.txt?x=$x", 'five.test'), 200, 'limit 4 of five: an expensive request');
is(get('/five/5/a.txt', 'five.test'), 429, 'limit 5 of five: shares the bucket of the fourth');
is(scalar(keys %{ limits('five.test') }), 4, 'four are shown');
is(get('/a.txt', 'five.test'), 200, 'a request without a limit is served');

$t->done;
