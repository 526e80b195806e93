# Limits together with other modules: their subrequests, redirects, error pages and limits. And other limits after a
# reload.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep time);

my $t = Test::RequestCpu->new->need('rewrite', 'proxy', 'map', 'limit_req');
my %has = map { $_ => $t->has($_) } qw(auth_request mirror);
$t->html($_, "plain\n")
    for qw(a.txt redirected.txt auth/a.txt mirror/a.txt tried/a.txt req/a.txt delay/a.txt named/a.txt);
$t->html('page.txt', "the page\n");

my $burn = burn_rules(3);
my $x = burn_text();
sub configuration {
    my (%option) = @_;
    my $cores = $option{cores} || '0.02';
    my $more = $option{more} || '';
    my $size = $option{size} || '1m';
    return (main => 'worker_processes 2;', http => <<"EOC");
    log_format limits '\$server_name \$uri \$status \$request_cpu_limit_status \$request_uri';
    access_log {{dir}}/limits.log limits;
    request_cpu_zone \$server_name zone=domains:$size;
    request_cpu zone=domains;
    limit_req_zone \$server_name zone=rate:1m rate=1r/m;
    limit_req_zone \$server_name zone=slow:1m rate=5r/s;
    limit_req_log_level info;
    request_cpu_limit_log_level info;
    server {
        listen 127.0.0.1:{{port:http}}; server_name with.test;
        request_cpu_limit zone=domains cores=$cores burst=20ms $more;
        location = /burn.txt { $burn return 204; }
        location = /burnt.txt { alias {{dir}}/html/a.txt; $burn }
        location = /accel { proxy_pass http://127.0.0.1:{{port:origin}}/accel; }
        location = /internal.txt { internal; alias {{dir}}/html/redirected.txt; }
        location /tried/ { try_files /nowhere \$uri =404; }
        location /fallback/ { try_files /nowhere \@plain; }
        location \@plain { return 200 "fallback\\n"; }
        location /named/ { error_page 429 \@page; }
        location \@page { rewrite ^ /page.txt break; proxy_pass http://127.0.0.1:{{port:origin}}; }
        location /hidden/ { error_page 429 \@hidden; }
        location \@hidden { rewrite ^ /later break; proxy_pass http://127.0.0.1:{{port:origin}};
            proxy_hide_header Retry-After; }
        location /ok/ { error_page 429 =200 /page.txt; }
        @{[ $has{auth_request} ? 'location /auth/ { auth_request /auth; } location = /auth { internal; return 204; }' : '' ]}
        @{[ $has{mirror} ? 'location /mirror/ { mirror /copy; } location = /copy { internal; proxy_pass http://127.0.0.1:{{port:origin}}/a.txt; }' : '' ]}
    }
    server {
        listen 127.0.0.1:{{port:http}}; server_name rate.test;
        request_cpu_limit zone=domains cores=0.02 burst=20ms;
        location = /burnt.txt { alias {{dir}}/html/a.txt; $burn }
        location /req/ { limit_req zone=rate; }
        location /delay/ { limit_req zone=slow burst=5; }
    }
    server {
        listen 127.0.0.1:{{port:origin}}; request_cpu off; access_log off;
        location = /later { add_header Retry-After 77; return 200 "later\n"; }
        location = /accel { add_header X-Accel-Redirect /internal.txt; return 200; }
    }
EOC
}
$t->start(configuration());

sub get { my ($uri, $host) = @_; return $t->get($uri, host => $host || 'with.test') }
sub said {
    my ($n) = @_;
    my $line;
    wait_until(60, sub { ($line) = $t->slurp($t->dir . '/limits.log') =~ /^(.*) \S+\bn=\Q$n\E\n/m });
    return $line;
}
sub limit { my ($host) = @_; $t->quiet; return $t->account('domains', $host || 'with.test')->{limit} }
sub indebted {
    my ($host) = @_;
    # makes a debt of seconds
    my $done = wait_until(60, sub { my $status = get("/burnt.txt?x=$x", $host)->{status}; sleep 0.05 if $status != 200;
        return $status == 200 });
    ok($done, 'in debt');
    $t->quiet;
}

# Within the limit
is(get('/a.txt')->{body}, "plain\n", 'a request');
is(get('/accel?n=accel')->{body}, "plain\n", 'X-Accel-Redirect leads to another location');
is(said('accel'), 'with.test /internal.txt 200 PASSED', 'the variable is kept');
is(get('/tried/a.txt')->{body}, "plain\n", 'try_files');
is(get('/fallback/a.txt?n=fallback')->{body}, "fallback\n", 'a named location');
is(said('fallback'), 'with.test /fallback/a.txt 200 PASSED', 'the variable is kept');
for my $module (sort keys %has) {
    SKIP: {
        skip "no $module", 1 unless $has{$module};
        is(get("/" . ($module =~ /(auth|mirror)/)[0] . '/a.txt')->{body}, "plain\n", "$module: its request is served");
    }
}

# Beyond the limit: refused before all of that, once
indebted();
my $n = limit()->{refused};
is(get($_)->{status}, 429, "$_ is refused") for '/accel', '/tried/a.txt', '/fallback/a.txt',
    ($has{auth_request} ? '/auth/a.txt' : ()), ($has{mirror} ? '/mirror/a.txt' : ());
is(limit()->{refused}, $n + 3 + $has{auth_request} + $has{mirror}, 'each of them once');
indebted();
my $named = get('/named/a.txt?n=named');
is("$named->{status} $named->{body}", "429 the page\n", 'error_page in a named location, which is proxied');
is(scalar(() = $named->{raw} =~ /^Retry-After: \d+\r$/mg), 1, 'has one Retry-After');
is(said('named'), 'with.test /page.txt 429 REJECTED', 'and the log line');
my $hidden = get('/hidden/a.txt');
is($hidden->{body}, "later\n", 'a page from a server that has a Retry-After of its own');
like(join(' ', $hidden->{raw} =~ /^Retry-After: (\d+)\r$/mg), qr/^(?!77)\d+$/,
    'which proxy_hide_header hides, and not this one');
my $ok = get('/ok/a.txt?n=ok');
is("$ok->{status} $ok->{body}", "200 the page\n", 'a page with another status');
is(said('ok'), 'with.test /page.txt 200 REJECTED', 'was refused nevertheless');
my ($before, $cpu) = (limit(), $t->account('domains', 'with.test')->{cpu_ns});
get('/named/a.txt') for 1 .. 10;
my ($after, $later) = (limit(), $t->account('domains', 'with.test')->{cpu_ns});
is($after->{refused} - $before->{refused}, 10, 'ten of them');
is($later - $cpu, $after->{refused_cpu_ns} - $before->{refused_cpu_ns}, 'whose error pages do not add to the debt');

# limit_req comes later in the same phase: requests that it refuses or delays passed our limit before
is(get('/req/a.txt', 'rate.test')->{status}, 200, 'limit_req: a first request');
is(get('/req/a.txt?n=req', 'rate.test')->{status}, 503, 'limit_req: refuses the next one');
is(said('req'), 'rate.test /req/a.txt 503 PASSED', 'limit_req: which was within its CPU');
my $start = time;
is(get("/delay/a.txt?n=delay$_", 'rate.test')->{status}, 200, 'limit_req: delayed') for 1 .. 3;
cmp_ok(time - $start, '>', 0.3, 'limit_req: for some time');
is(said('delay3'), 'rate.test /delay/a.txt 200 PASSED', 'limit_req: and checked once');
indebted('rate.test');
is(get('/req/a.txt?n=both', 'rate.test')->{status}, 429, 'limit_req: beyond both, the CPU limit refuses');
my ($count) = (limit('rate.test')->{refused});
is(get('/delay/a.txt', 'rate.test')->{status}, 429, 'limit_req: refused at once');
is(limit('rate.test')->{refused}, $count + 1, 'limit_req: once');

# Many requests on one connection, from within the limit to beyond it and back
my $c = $t->connect('http');
my $end = time + 60;
my @order;
while (time < $end) {
    my $status = $c->get(@order ? '/a.txt' : "/burnt.txt?x=$x", host => 'with.test')->{status};
    push @order, $status if !@order || $order[-1] != $status;
    last if "@order" =~ /200 429 200$/;
    @order = () if "@order" eq '429';
    sleep 0.02;
}
$c->close;
is("@order[-3 .. -1]", '200 429 200', 'a connection that is kept is served, refused, and served again');

# Other limits after a reload
indebted();
my $debt = limit();
ok($t->reload(configuration(cores => 1000)), 'a reload with a larger limit');
get('/a.txt');
sleep 0.05;
is(get('/a.txt')->{status}, 200, 'pays the debt at once');
is(limit()->{cores}, 1000, 'and is shown');
ok($t->reload(configuration(cores => '0.001')), 'one with a smaller limit');
is(get('/a.txt')->{status}, 200, 'goes on from there');
is(get("/burnt.txt?x=$x")->{status}, 200, 'lets the next in');
$t->quiet;
my $slow = get('/a.txt');
is($slow->{status}, 429, 'and then none');
cmp_ok($slow->{headers}{'retry-after'}, '>', 5, 'for long');
ok($t->reload(configuration(cores => '0.001', more => 'dry_run')), 'one with dry_run');
is(get('/a.txt?n=dry')->{status}, 200, 'refuses no request any more');
is(said('dry'), 'with.test /a.txt 200 REJECTED_DRY_RUN', 'but would');
my $kept = limit();
ok($t->reload(configuration(cores => '0.001', size => '2m')), 'one with another size of the zone');
is(get('/a.txt')->{status}, 200, 'forgives the debt');
cmp_ok(limit()->{debt_ns}, '<', $kept->{debt_ns}, 'as the status says');

$t->done(no_totals => 1);
