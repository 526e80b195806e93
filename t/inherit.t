# A request is counted in the zones of the innermost level that names zones.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
my $eight = join ' ', map { "zone=z$_" } 1 .. 8;
my $zones = join "\n", map { "request_cpu_zone \$uri zone=z$_:64k;" } 1 .. 8;
$t->start(http => <<"EOC");
    request_cpu_zone \$uri zone=http:1m;
    request_cpu_zone \$uri zone=server:1m;
    request_cpu_zone \$uri zone=location:1m;
    request_cpu_zone \$uri zone=nested:1m;
    $zones
    request_cpu zone=http;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name inherits.test;
        location /plain/ { return 200 "x"; }
        location /own/ { request_cpu zone=location; return 200 "x"; }
        location /off/ { request_cpu off; return 200 "x"; }
        location /outer/ {
            request_cpu zone=location;
            location /outer/inherits/ { return 200 "x"; }
            location /outer/own/ { request_cpu zone=nested; return 200 "x"; }
            location /outer/off/ { request_cpu off; return 200 "x"; }
        }
        location /if/ { request_cpu zone=location; if (\$arg_x) { return 200 "if"; } return 200 "x"; }
        location /limited/ { request_cpu zone=location; limit_except GET { deny all; } return 200 "x"; }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        server_name own.test;
        request_cpu zone=server zone=nested;
        location /plain/ { return 200 "x"; }
        location /own/ { request_cpu zone=http; return 200 "x"; }
        location /moves/ { request_cpu zone=location; rewrite ^ /own/ last; }
        location /back/ { request_cpu zone=location; error_page 404 = \@off; return 404; }
        location \@off { request_cpu off; return 200 "x"; }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        server_name off.test;
        request_cpu off;
        location /plain/ { return 200 "x"; }
        location /on/ { request_cpu zone=http; return 200 "x"; }
        location /all/ { request_cpu $eight; return 200 "x"; }
    }
EOC

# Each case has its own URI: its key shows where the request was counted.
my @cases = (
    [ 'the server says nothing', 'inherits.test', '/plain/1', 'http' ],
    [ 'a location of its own', 'inherits.test', '/own/2', 'location' ],
    [ 'off in a location', 'inherits.test', '/off/3', '' ],
    [ 'a location in a location', 'inherits.test', '/outer/inherits/4', 'location' ],
    [ 'one of its own in a location', 'inherits.test', '/outer/own/5', 'nested' ],
    [ 'off in a location in a location', 'inherits.test', '/outer/off/6', '' ],
    [ 'the location around it', 'inherits.test', '/outer/7', 'location' ],
    [ 'a server of its own', 'own.test', '/plain/8', 'nested server' ],
    [ 'a location back to that of http', 'own.test', '/own/9', 'http' ],
    [ 'off in a server', 'off.test', '/plain/10', '' ],
    [ 'on again in a location', 'off.test', '/on/11', 'http' ],
    [ 'eight zones', 'off.test', '/all/12', join(' ', map { "z$_" } 1 .. 8) ],
    [ 'if in a location', 'inherits.test', '/if/13?x=1', 'location' ],
    [ 'limit_except', 'inherits.test', '/limited/14', 'location' ],
    [ 'a request that a rewrite moves', 'own.test', '/moves/15', 'http', '/own/' ],
    [ 'one that an error moves', 'own.test', '/back/16', '' ],
    [ 'an error before any location', 'inherits.test', '/none/17', 'http' ],
);
my $ns = 0;
for my $case (@cases) { $t->get($case->[2], host => $case->[1]) }
my @lines = $t->logged(scalar @cases);
wait_until(60, sub { $t->status->{zones}{http}{keys}{'/none/17'} });
my $status = $t->status;
for my $n (0 .. $#cases) {
    my ($name, $host, $uri, $expected, $key) = @{ $cases[$n] };
    ($key) = split /\?/, $uri unless defined $key;
    my @in = grep { $status->{zones}{$_}{keys}{$key} } sort keys %{ $status->{zones} };
    is(join(' ', @in), $expected, "$name: counted in " . ($expected || 'no zone'));
    is(scalar(grep { $status->{zones}{$_}{keys}{$key}{requests} != 1 } @in), 0, "$name: once");
    like($lines[$n]{ns}, qr/^[1-9]\d*$/, "$name: measured anyhow");
}

# All eight zones count the same
my @eight = map { $status->{zones}{"z$_"}{keys}{'/all/12'} } 1 .. 8;
is(scalar(grep { $_->{requests} == 1 && $_->{sent_bytes} == $eight[0]{sent_bytes}
    && $_->{cpu_ns} >= $lines[11]{ns} } @eight), 8,
    'eight zones each have the whole request');

$t->done;
