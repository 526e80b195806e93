# $request_cpu_subrequest distinguishes log lines of subrequests from those of main requests.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('ssi', 'mirror');
my $auth = $t->has('auth_request');
my $auth_conf = $auth ? 'location = /auth { auth_request /permit; root {{dir}}/html; }' : '';

$t->html('two.html', '<!--#echo var="request_cpu_subrequest" -->'
    . '<!--#include virtual="/one" --><!--#include virtual="/two" -->'
    . '<!--#include virtual="/echo.html" wait="yes" --><!--#echo var="request_cpu_subrequest" -->');
$t->html('nested.html', '<!--#include virtual="/outer.html" -->');
$t->html('outer.html', '<!--#include virtual="/one" -->');
$t->html('echo.html', '<!--#echo var="request_cpu_subrequest" -->');
$t->html('inside.html', '<!--#include virtual="/moved" -->');
$t->html('missing.html', '<!--#include virtual="/not-there" -->');
$t->html('auth', "allowed\n");
$t->html('mirrored', "mirrored\n");

$t->start(http => <<"EOC");
    # the variable stands twice, before and after others, and in a map
    map \$request_cpu_subrequest \$kind { volatile; 1 sub; 0 main; default none; }
    log_format kinds '\$request_uri \$uri \$request_cpu_subrequest \$kind \$request_cpu_ns \$request_cpu_subrequest';
    log_subrequest on;
    proxy_cache_path {{dir}}/cache keys_zone=cache:1m;
    server {
        listen 127.0.0.1:{{port:http}};
        access_log {{dir}}/kinds.log kinds;
        access_log {{dir}}/main.log kinds if=\$is_main;
        ssi on;
        error_page 404 /fallback;
        location / { root {{dir}}/html; }
        location = /one { return 200 "one"; }
        location = /two { return 200 "two"; }
        location = /moved { rewrite ^ /one last; }
        location = /fallback { return 200 "fallback"; }
        location = /permit { internal; return 204; }
        location = /mirrored { mirror /copy; root {{dir}}/html; }
        location = /copy { internal; return 204; }
        location = /header { add_header X-Subrequest \$request_cpu_subrequest; return 204; }
        location = /cached {
            proxy_cache cache; proxy_cache_valid 200 1s; proxy_cache_use_stale updating;
            proxy_cache_background_update on;
            proxy_pass http://127.0.0.1:{{port:origin}}/;
        }
        $auth_conf
    }
    map \$request_cpu_subrequest \$is_main { volatile; 0 1; default 0; }
    server {
        listen 127.0.0.1:{{port:origin}};
        location / { return 200 "origin"; }
    }
EOC

# The lines of requests as "URI kind", where both variables and the map agree.
my $seen = 0;
sub kinds {
    my ($expected) = @_;
    my @lines;
    wait_until(60, sub {
        @lines = split /\n/, $t->slurp($t->dir . '/kinds.log');
        @lines >= $seen + $expected;
    });
    my @new = @lines[$seen .. $#lines];
    $seen = @lines;
    return [
        sort map {
            my (undef, $uri, $first, $kind, $ns, $second) = split / /;
            my $is_right = $first eq $second && $kind eq ($first ? 'sub' : 'main') && $ns =~ /^[1-9]\d*$/;
            $is_right ? "$uri $first" : "not alike: $_";
        } @new
    ];
}

is($t->get('/two.html')->{body}, '0onetwo10',
    'SSI: the variable is of the request that reads it, whoever read it before');
is_deeply(kinds(4), [ '/echo.html 1', '/one 1', '/two 1', '/two.html 0' ],
    'includes are subrequests, and the page is none');

$t->get('/nested.html');
is_deeply(kinds(3), [ '/nested.html 0', '/one 1', '/outer.html 1' ], 'so is an include of an include');

$t->get('/inside.html');
is_deeply(kinds(2), [ '/inside.html 0', '/one 1' ], 'a subrequest stays one after an internal redirect');

$t->get('/missing.html');
is_deeply(kinds(2), [ '/fallback 1', '/missing.html 0' ], 'also after error_page');

$t->get('/moved');
$t->get('/not-there');
is_deeply(kinds(2), [ '/fallback 0', '/one 0' ], 'a main request stays one after an internal redirect');

$t->get('/mirrored');
is_deeply(kinds(2), [ '/copy 1', '/mirrored 0' ], 'a mirrored copy is a subrequest');

is($t->get('/header')->{headers}{'x-subrequest'}, '0', 'a header can show the variable');
kinds(1);

SKIP: {
    skip('no auth_request module', 1) unless $auth;
    $t->get('/auth');
    is_deeply(kinds(2), [ '/auth 0', '/permit 1' ], 'the check of auth_request is a subrequest');
}

$t->get('/cached');
kinds(1);
select undef, undef, undef, 2.5;
$t->get('/cached');
is_deeply(kinds(2), [ '/cached 0', '/cached 1' ], 'a background update of the cache is a subrequest');

my @main = map { (split / /)[2] } split /\n/, $t->slurp($t->dir . '/main.log');
is_deeply([ grep { $_ ne '0' } @main ], [], 'a condition of access_log can leave out subrequests');
cmp_ok(scalar @main, '>=', 8, 'and nothing else');

$t->done;
