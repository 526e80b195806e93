# The CPU of a subrequest is charged to its main request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('ssi');
my $auth = $t->has('auth_request');
my $addition = $t->has('addition');
my $slice = $t->has('slice');

my $dear = '/burn?x=' . burn_text(20);
$t->html('ssi/dear.html', qq{before <!--#include virtual="$dear" --> after\n});
$t->html('ssi/cheap.html', qq{before <!--#include virtual="/cheap" --> after\n});
$t->html('ssi/many.html', join '', map { qq{<!--#include virtual="/upstream?$_" -->} } 1 .. 8);
$t->html('ssi/nested.html', qq{outer <!--#include virtual="/ssi/dear.html" --> outer\n});
$t->html('ssi/value.html',
    qq{<!--#echo var="request_cpu_ns" --> <!--#include virtual="$dear" --><!--#include virtual="/value.html" wait="yes" -->});
$t->html('value.html', qq{<!--#echo var="request_cpu_ns" -->\n});
$t->html('a.txt', "plain\n");
$t->html('large.txt', words(400_000));

my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    sleep 0.05;
    return $connection->answer("[$request->{uri}]");
});

my $auth_conf = $auth ? 'location = /auth { auth_request /permit; } location = /denied { auth_request /deny; }' : '';
my $addition_conf = $addition
    ? 'location = /added/a.txt { alias {{dir}}/html/a.txt; addition_types *; add_after_body /burn_added; }' : '';
my $slice_conf = $slice ? <<'EOC' : '';
        location /sliced/ {
            slice 64k;
            proxy_cache cache; proxy_cache_key $uri$slice_range; proxy_cache_valid 200 206 1h;
            proxy_set_header Range $slice_range;
            proxy_pass http://127.0.0.1:{{port:origin}}/;
        }
EOC

$t->start(http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu_zone \$uri zone=uris:1m;
    request_cpu zone=domains zone=uris;
    proxy_cache_path {{dir}}/cache keys_zone=cache:1m;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name sub.test;
        location / { ssi on; ssi_types *; }
        location = /burn { @{[ burn_rules(1) ]} return 200 "burnt"; }
        location = /burn_added { set \$args x=@{[ burn_text(20) ]}; @{[ burn_rules(1) ]} return 200 "added\\n"; }
        location = /cheap { return 200 "cheap"; }
        location /upstream { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location = /permit { internal; set \$args x=@{[ burn_text(20) ]}; @{[ burn_rules(1) ]} return 204; }
        location = /deny { internal; return 403; }
        $auth_conf
        $addition_conf
        $slice_conf
        location = /mirrored { mirror /mirror; return 200 "x"; }
        location = /mirrored.txt { alias {{dir}}/html/a.txt; mirror /mirror; }
        location = /mirror { internal; proxy_pass http://127.0.0.1:{{port:upstream}}/copy; }
        location = /logged.html { alias {{dir}}/html/ssi/cheap.html; ssi on; log_subrequest on; }
        location = /logged { return 200 "x"; }
    }
    server {
        listen 127.0.0.1:{{port:logging}};
        server_name logging.test;
        log_subrequest on;
        location / { ssi on; ssi_types *; }
        location = /cheap { return 200 "cheap"; }
    }
    server {
        listen 127.0.0.1:{{port:origin}};
        server_name origin.test;
        location / { }
    }
EOC

# The CPU of a request in the log, and the CPU that the worker's thread used in the same time.
sub cost {
    my ($uri) = @_;
    return $t->charged_and_used(1, sub { my $answer = $t->get($uri); $answer->{status} == 200
        or die "$uri: $answer->{status}\n" });
}

# A page with an expensive include: the include is nearly all work of the worker, and the request must be charged
# nearly all of it.
sub pays {
    my ($uri, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    within((cost($uri))[ 0, 1 ], 0.7, 1, $name);
}

my ($burn) = cost($dear);
my ($cheap) = cost('/ssi/cheap.html');
cmp_ok($burn, '>', 10 * $cheap, 'an expensive location and a cheap page');

pays($dear, 'an expensive location is charged to its request');
pays('/ssi/dear.html', 'a page with a dear include costs what the include costs');
pays('/ssi/nested.html', 'also when the include has the include');
like($t->get('/ssi/dear.html')->{body}, qr/^before burnt after$/, 'and is complete');

# In a subrequest, the variable has the value of the main request
$t->clear_log;
my ($early, $late) = $t->get('/ssi/value.html')->{body} =~ /^(\d+) burnt(\d+)$/;
my ($whole) = $t->logged(1);
cmp_ok($early, '>', 0, 'an SSI variable shows the CPU so far');
cmp_ok($late - $early, '>', $whole->{ns} / 2,
    'a subrequest shows the value of its main request, with the CPU of other subrequests');

# Counting
$t->clear_log;
my $before = $t->account_with('domains', 'sub.test', 1)->{requests};
my $pages = 10;
my ($used, $work) = $t->worked(sub {
    my @page = map { $t->get('/ssi/many.html')->{body} } 1 .. $pages;
    is_deeply(\@page, [ (join '', map { "[/upstream?$_]" } 1 .. 8) x $pages ],
        'eight includes, from an upstream at once');
    $t->logged($pages);
});
my @pages = $t->logged($pages);
is($t->account_with('domains', 'sub.test', $before + $pages)->{requests}, $before + $pages,
    'subrequests are no requests of their own');
my $charged = sum(map { $_->{ns} } @pages);
cmp_ok($charged, '<=', $used, 'pages are charged no more than the thread used');
within($charged, $work, 0.6, 1.1, 'and the CPU of the includes is charged to the page');
is(scalar(grep { $_->{wakeups} >= 9 } @pages), $pages, 'their wakeups are counted with the page');
my $keys = $t->status('zone=uris')->{zones}{uris}{keys};
is_deeply([ grep { m{^/(?:upstream|cheap)} } keys %$keys ], [], 'their keys have no accounts');
is($keys->{'/ssi/many.html'}{requests}, $pages, 'the main request\'s key has');

# log_subrequest: several lines for one main request
$t->get('/ssi/cheap.html', port => 'logging', host => 'logging.test');
my @lines = $t->logged(2, sub { $_[0]{server} eq 'logging.test' });
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 2, 'a subrequest that is logged shows a value');
my ($main) = grep { $_->{final_uri} eq '/ssi/cheap.html' } @lines;
my ($sub) = grep { $_->{final_uri} eq '/cheap' } @lines;
ok($main && $sub, 'both lines are there');
cmp_ok($sub->{ns}, '<=', $main->{ns}, 'which is no more than the main request\'s in the end');
is($t->account_with('domains', 'logging.test', 1)->{requests}, 1, 'and is counted once');

SKIP: {
    skip('no auth_request module', 3) unless $auth;
    $t->html('auth', "allowed\n");
    pays('/auth', 'auth_request: the check is charged to the request');
    $t->clear_log;
    is($t->get('/denied')->{status}, 403, 'a request that is denied');
    my ($line) = $t->logged(1);
    like($line->{ns}, qr/^[1-9]\d*$/, 'is charged too');
}

SKIP: {
    skip('no addition module', 2) unless $addition;
    pays('/added/a.txt', 'addition: the added text is charged to the request');
    is($t->get('/added/a.txt')->{body}, "plain\nadded\n", 'and is there');
}

SKIP: {
    skip('no slice module', 3) unless $slice;
    $t->clear_log;
    my $answer = $t->get('/sliced/large.txt', host => 'sub.test');
    is(length $answer->{body}, 400_000, 'slices make a whole');
    my ($line) = $t->logged(1, sub { $_[0]{server} eq 'sub.test' });
    cmp_ok($line->{wakeups}, '>=', 7, 'slice: every slice\'s wakeups are the request\'s');
    my @origin = $t->logged(7, sub { $_[0]{server} eq 'origin.test' });
    is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @origin), scalar @origin,
        'requests to the origin are charged for themselves');
}

$before = $t->account('uris', '/mirrored.txt')->{requests};
$t->clear_log;
my $connection = $t->connect('http');
is($connection->get('/mirrored.txt')->{body}, "plain\n", 'a mirrored request') for 1 .. 3;
$connection->close;
@lines = $t->logged(3);
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ && $_->{wakeups} >= 2 } @lines), 3,
    'mirror: the copy is part of the request');
is($t->account_with('uris', '/mirrored.txt', 3)->{requests}, 3, 'and no request of its own');
is($t->account('uris', '/mirrored.txt')->{in_flight}, 0, 'nothing stays in flight');

$t->done;
