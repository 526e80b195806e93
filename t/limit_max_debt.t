# max_debt: a debt has a bound, and many expensive requests at once are not all served.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('proxy', 'gzip');
$t->expect_log(qr/\[alert\].*worker process \d+ exited on signal 9/);
$t->html('a.txt', "plain\n");
$t->html('dear.txt', words(100_000));
my @limits = ([ 'bounded.test', '0.001', 'max_debt=2s' ], [ 'tight.test', '0.1', 'max_debt=80ms' ],
    [ 'free.test', '0.001', '' ]);
$t->start(main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$server_name zone=z:1m;
    request_cpu zone=z;
    request_cpu_limit_log_level info;
    @{[ map { my ($name, $cores, $max_debt) = @$_; <<"EOS" } @limits ]}
    server {
        listen 127.0.0.1:{{port:http}}; server_name $name;
        request_cpu_limit zone=z cores=$cores burst=150ms $max_debt;
        location = /a.txt { }
        location / {
            proxy_pass http://127.0.0.1:{{port:origin}}/dear.txt; proxy_method GET; proxy_pass_request_body off;
            proxy_set_header Content-Length ""; gzip on; gzip_types *; gzip_comp_level 9;
        }
    }
EOS
    server { listen 127.0.0.1:{{port:origin}}; request_cpu off; access_log off; location / { } }
EOC

sub get {
    my ($uri, $host) = @_;
    my $status = $t->get($uri, host => $host)->{status};
    $t->quiet;
    return $status;
}
sub limit { my ($host) = @_; return $t->account('z', $host)->{limit} }

sub post {
    my ($host) = @_;
    my $c = $t->connect('http');
    $c->send("POST / HTTP/1.1\r\nHost: $host\r\nAccept-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\nx");
    return $c;
}
sub dear {
    my ($host) = @_;
    my $c = post($host);
    $c->send('x');
    my $status = $c->response->{status};
    $t->quiet;
    return $status;
}
# How many of them wait for the rest of their bodies; the others have been answered.
sub waiting {
    my (@all) = @_;
    $t->quiet;
    my @waiting = grep { !IO::Select->new($_->socket)->can_read(0.05) } @all;
    return @waiting;
}

my $count = 30;
for my $host (qw(free.test bounded.test)) {
    is(dear($host), 200, "$host: a dear request");
    my $account = $t->account_with('z', $host, 1);
    my $average_ns = $account->{cpu_ns} / $account->{requests};
    # within the rest of the burst, and one more; the cost of a request varies
    my $most = (150e6 - $account->{cpu_ns}) / $average_ns + 2.5;
    my @all = map { post($host) } 1 .. $count;
    my @waiting = waiting(@all);
    if ($host eq 'free.test') { is(scalar @waiting, $count, "$host: all are let in"); $_->close for @all; next }
    cmp_ok(scalar @waiting, '>=', 1, "$host: one is let in at least");
    cmp_ok(scalar @waiting, '<=', $most, "$host: of $count at once, no more than the burst and one");
    is($_->response->{status}, 429, "$host: others are refused")
        for grep { my $c = $_; !grep { $_ == $c } @waiting } @all;
    $_->close for @all;
    wait_until(60, sub { $t->account('z', $host)->{in_flight} == 0 });
    is(get('/a.txt', $host), 200, "$host: when they are gone, what was expected of them is given back");
    is(limit($host)->{max_debt_ns}, 2e9, "$host: the bound is shown");
}
is(dear('bounded.test'), 200, 'bounded.test: an expensive request');
ok(wait_until(60, sub { dear('bounded.test') == 429 }), 'bounded.test: expensive ones make a debt');

# A debt has a bound
my $batch = sub {
    my @all = map { post('tight.test') } 1 .. 20;
    $_->send('x') for @all;
    return scalar grep { $_->response->{status} == 429 } @all;
};
ok(wait_until(60, $batch), 'tight.test: expensive ones make a debt');
my @all;
for (1 .. 8) { push @all, post('tight.test'); }
$_->send('x') for @all;
$_->response for @all;
$t->quiet;
cmp_ok(limit('tight.test')->{debt_ns}, '<=', 80e6, 'tight.test: which has a bound');
ok(wait_until(60, sub { get('/a.txt', 'tight.test') == 200 }), 'tight.test: and is paid');

# Killed workers lose no charge, and leave no charge reserved for ever
ok(wait_until(60, sub { sleep 0.2; dear('tight.test') == 200 }), 'tight.test: an expensive request');
wait_until(60, sub { sleep 0.2; get('/a.txt', 'tight.test') == 200 });
my @open = waiting(map { post('tight.test') } 1 .. 10);
cmp_ok(scalar @open, '>=', 1, 'tight.test: some are open');
my @old = $t->workers;
kill KILL => @old;
ok(wait_until(60, sub { my %now = map { $_ => 1 } $t->workers; %now == 2 && !grep { $now{$_} } @old }),
    'workers are killed, and replaced');
cmp_ok(limit('tight.test')->{debt_ns}, '<=', 80e6, 'tight.test: the debt is within its bound');
ok(wait_until(30, sub { sleep 0.1; get('/a.txt', 'tight.test') == 200 }), 'tight.test: it is paid as any other');

$t->done(no_totals => 1);
