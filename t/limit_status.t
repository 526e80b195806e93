# Limits and the status: an operator can read it while its key is over an inherited limit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('gzip');
$t->html('text.txt', words(300_000));
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=z:1m;
    request_cpu_zone all zone=all:1m;
    request_cpu zone=z zone=all;
    request_cpu_limit zone=z cores=0.001 burst=0;
    request_cpu_limit_log_level info;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { gzip on; gzip_types *; gzip_comp_level 9; }
        location = /inherited { request_cpu_status; }
        location = /server { request_cpu_status format=prometheus; }
        location = /if { request_cpu_status format=html detail=low; if (\$http_host) { add_header X-If yes; } }
        location /outer { request_cpu_status; location /outer/inner { root html; try_files /text.txt =404; } }
        location = /own { request_cpu_limit zone=z cores=0.001 burst=0 status=503; request_cpu_status; }
        location = /own_if { request_cpu_limit zone=z cores=0.001 burst=0 status=503; request_cpu_status;
            if (\$http_host) { add_header X-If yes; } }
        location = /off { request_cpu_limit off; request_cpu_status; }
        location = /rewritten { rewrite ^ /inherited last; }
        location = /away { rewrite ^ /text.txt last; request_cpu_status; }
    }
    server {
        listen 127.0.0.1:{{port:server}};
        request_cpu_limit zone=all cores=0.001 burst=0 status=599;
        location / { gzip on; gzip_types *; gzip_comp_level 9; }
        location = /status { request_cpu_status; }
    }
EOC

sub status { my ($uri, %option) = @_; return $t->get($uri, host => 'a.test', %option)->{status} }
is($t->get('/text.txt', host => 'a.test', headers => { 'Accept-Encoding' => 'gzip' })->{status}, 200,
    'the first request is let in');
ok(wait_until(60, sub { status('/text.txt') == 429 }), 'then the key is over its limit');
for (1 .. 3) {
    is(status($_), 200, "$_: the status can be read")
        for qw(/inherited /server /off /rewritten /outer), '/inherited?asset=page.js', '/inherited?format=html', '/if';
    is(status($_), 503, "$_: a limit of the location itself applies") for qw(/own /own_if);
    is(status($_), 429, "$_: what is not the status is refused") for qw(/text.txt /outer/inner /away);
}
my $answer = $t->get('/if', host => 'a.test');
like($answer->{headers}{'content-type'}, qr{^text/html}, 'an "if" in the location keeps its format');
is($answer->{headers}{'x-if'}, 'yes', 'where it is true');
ok($t->account('z', 'a.test')->{limit}{debt_ns} > 0, 'the key is over its limit all the time');
ok(wait_until(60, sub { $t->get('/text.txt', port => 'server', host => 'b.test',
    headers => { 'Accept-Encoding' => 'gzip' })->{status} == 599 }), 'a limit of a server');
is($t->get('/status', port => 'server', host => 'b.test')->{status}, 200, 'does not apply to its status either');

$t->done;
