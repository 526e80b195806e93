# The live page on a server that adds headers to all its answers, or changes them.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Browser;
use Time::HiRes qw(sleep);

binmode Test::More->builder->$_, ':encoding(UTF-8)' for qw(output failure_output todo_output);

my $missing = Test::RequestCpu::Browser->missing;
plan(skip_all => "no $missing, which this test drives") if $missing;

sub policy { my ($policy) = @_; return qq{add_header Content-Security-Policy "$policy" always;} }

# Headers of an outer level with which the page must work
my @works = (
    [ 'nothing', '' ],
    [ 'a policy of the site', policy("default-src 'self'") ],
    [ 'a policy with https', policy("default-src 'self' https:") ],
    [ 'script and style', policy("script-src 'self'; style-src 'self'") ],
    [ 'a policy with all that it names',
        policy("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'") ],
    [ 'two policies', policy("default-src 'self'")
        . policy("script-src 'self' https://cdn.example; object-src 'none'") ],
    [ 'trusted types', policy("require-trusted-types-for 'script'; trusted-types default") ],
    [ 'insecure requests upgraded', policy('upgrade-insecure-requests') ],
    [ 'other headers', join ' ', map { "add_header $_ always;" } 'X-Frame-Options SAMEORIGIN',
        'Referrer-Policy same-origin', 'X-Content-Type-Options nosniff',
        'X-XSS-Protection "1; mode=block"', 'Cross-Origin-Opener-Policy same-origin',
        'Cross-Origin-Embedder-Policy require-corp', 'Cross-Origin-Resource-Policy same-origin',
        'Permissions-Policy "accelerometer=(), camera=(), geolocation=(), interest-cohort=()"',
        'Cache-Control "public, max-age=31536000, immutable"', 'Content-Language de',
        'Origin-Agent-Cluster ?1', 'Strict-Transport-Security max-age=600' ],
    [ 'expires', 'expires 30d;' ],
    [ 'gzip for everything', 'gzip on; gzip_types *; gzip_min_length 1; gzip_vary on;' ],
    [ 'gunzip off, etag off', 'etag off; if_modified_since off;' ],
    [ 'SSI', 'ssi on;' ],
    [ 'a charset', 'charset koi8-r; charset_types *;' ],
    [ 'a charset and a source', 'charset koi8-r; source_charset utf-8;' ],
    [ 'types', 'default_type application/octet-stream; types { application/octet-stream js css svg html; }' ],
    [ 'a rate', 'limit_rate 200k;' ],
    [ 'error pages', 'error_page 404 405 500 /nowhere.html; proxy_intercept_errors on;' ],
    [ 'sub_filter', q{sub_filter '</head>' '<meta name="added" content="1"><base href="/elsewhere/"><script>document.title="changed"</script></head>'; sub_filter_once off;}, 'sub' ],
    [ 'addition', 'add_before_body /added.txt; add_after_body /added.txt;', 'addition' ],
);
# Policies with which the page cannot work, but says so. In a sandbox with scripts and without requests, its script
# says so.
my @blocked = (
    [ 'nothing allowed', "default-src 'none'" ],
    [ 'a nonce', "script-src 'nonce-4711'" ],
    [ 'a nonce that other scripts inherit', "script-src 'nonce-4711' 'strict-dynamic' 'self'; style-src 'self'" ],
    [ 'no style', "style-src 'none'" ],
    [ 'a sandbox', 'sandbox' ],
    [ 'another server', "default-src https://static.example" ],
);
my @mute = (
    [ 'no requests', "default-src 'self'; connect-src 'none'" ],
    [ 'a sandbox with scripts', 'sandbox allow-scripts' ],
);

my $t = Test::RequestCpu->new->need('gzip', 'ssi');
@works = grep { !$_->[2] || $t->has($_->[2]) } @works;
$t->html('added.txt', 'added');
my ($n, %path, $locations) = (0);
for my $case (@works, map { [ $_->[0], policy($_->[1]) ] } @blocked, @mute) {
    my ($name, $directives) = @$case;
    $path{$name} = '/p' . ++$n;
    $locations .= "location $path{$name}/ { $directives location = $path{$name}/cpu { request_cpu_status; } }\n";
}
$t->start(http => <<"EOC");
    charset_map koi8-r utf-8 { C1 D0B0; }
    request_cpu_zone \$host zone=domains:1m;
    request_cpu zone=domains;
    server {
        listen 127.0.0.1:{{port:http}};
        $locations
        location = /added.txt { }
        location = /cpu { request_cpu_status; }
        location = /only { request_cpu_status format=html detail=low; }
        location /deep/er/status { request_cpu_status; }
        location /mended/ {
            add_header Content-Security-Policy "default-src 'none'" always;
            location = /mended/cpu { request_cpu_status; add_header X-Frame-Options DENY; }
        }
        location = /token {
            if (\$arg_token != "a%20b") { return 403; }
            request_cpu_status;
        }
        location = /if {
            if (\$http_user_agent) { add_header X-Agent yes; }
            request_cpu_status format=html detail=low;
        }
        location /proxied/ { proxy_pass http://127.0.0.1:{{port:http}}/cpu; }
        location = /stripped { set \$args ''; proxy_pass http://127.0.0.1:{{port:http}}/only; }
    }
EOC
$t->get('/added.txt', host => "$_.test") for qw(one two three);

my $page = Test::RequestCpu::Browser->new(dir => $t->dir);
my $at = 'http://127.0.0.1:' . $t->port('http');
my $rows = 'document.querySelectorAll("#table tbody tr:not(.spacer)").length';
my $notice = 'document.getElementById("blocked")';
sub open_page { my ($uri) = @_; $page->go('about:blank'); $page->console; $page->go("$at$uri"); return 1 }
sub works {
    my ($uri, $what) = @_;
    open_page($uri);
    ok($page->wait_for(10, "document.body.dataset.state === 'live' && $rows >= 3"), "$what: the page has its rows")
        or diag($page->console);
    ok($page->js("!$notice"), "$what: nothing is missing");
    is($page->js('getComputedStyle(document.querySelector(".card")).borderRadius'), '12px', "$what: it has its style");
    picture($what);
    return 1;
}
# Screenshots for people: REQUEST_CPU_SCREENSHOTS=/tmp prove t/page_headers.t
sub picture {
    my ($what) = @_;
    return unless $ENV{REQUEST_CPU_SCREENSHOTS};
    $page->screenshot("$ENV{REQUEST_CPU_SCREENSHOTS}/" . ($what =~ tr{ /}{-}r) . '.png');
}

for my $case (@works) {
    my ($name) = @$case;
    works("$path{$name}/cpu", $name);
    next if $name =~ /^(?:sub_filter|addition)$/;    # what they put in is blocked by the page's own policy
    is_deeply([ grep { !/favicon|interest-cohort|Permissions-Policy|Cross-Origin-Opener-Policy/ } $page->console ], [],
        "$name: no word in the console");
}
is($page->js('document.title'), 'CPU by domain', 'a script that is put in does not run');
works('/mended/cpu', 'an add_header in the location, as the notice says');
works('/only', 'format=html');
works('/deep/er/status', 'a longer path');
works('/deep/er/status/', 'with a slash at the end');
works('/proxied/', 'behind another prefix');
works('/if', 'with an "if" in the location');
ok((grep { m{/if\?.*format=json} } $page->requests), 'which keeps the format');
works('/token?token=a%20b', 'with an argument of others');

for my $case (@blocked) {
    my ($name) = @$case;
    open_page("$path{$name}/cpu");
    ok($page->wait_for(10,
        "$notice && getComputedStyle($notice).visibility === 'visible' && $notice.getBoundingClientRect().height > 40"),
            "$name: the page says that it is blocked")
        or diag($page->console);
    my $text = $page->js("$notice.innerText");
    like($text, qr/did not load the script or the style.*Content-Security-Policy.*add_header/s,
        "$name: why, and what mends it");
    is($page->js("$notice.querySelectorAll('a[href=\"?format=json\"]').length"), 1, "$name: and where the figures are");
    picture($name);
}
for my $case (@mute) {
    my ($name) = @$case;
    open_page("$path{$name}/cpu");
    ok($page->wait_for(10, 'document.getElementById("gone-text").textContent.includes("Content-Security-Policy")'),
        "$name: the page says that it may not ask")
        or diag($page->text('#gone-text'), $page->console);
    picture($name);
}
open_page('/stripped');
ok($page->wait_for(10, "$notice && getComputedStyle($notice).visibility === 'visible'"),
    'a proxy that takes the arguments away: the page says so');

# an open connection of the browser would delay the end of an older NGINX
$page->end;

# A script of another version than the page is never run
my $answer = $t->get('/cpu?format=html');
my ($script) = $answer->{body} =~ m{<script defer src="(\?asset=page\.js@[\w-]+)"></script>};
ok($script, 'the name of the page\'s script changes with its content') or diag($answer->{body});
is($t->get("/cpu$script")->{status}, 200, 'which is there');
my $other = $script =~ s/@\w+/\@1/r;
$answer = $t->get("/cpu$other");
is($answer->{status}, 404, 'that of another version is not');
like($answer->{body}, qr/"error"\s*:\s*"unknown asset \\"page\.js@/, 'which is said');

$t->done;
