# Another module that reads $request_cpu_ns in the log phase, as the OpenTelemetry module does it for its spans, gets
# the value of the access log. Lua stands for that module.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
my ($ndk, $lua) = map { $t->_dynamic($_) } 'ndk_http_module.so', 'ngx_http_lua_module.so';
plan(skip_all => "nginx/@{[ $t->version ]} here has no lua") unless $ndk && $lua;
my ($tree) = $lua =~ m{^(.+)/usr/lib/nginx/modules/};
my $libraries = $tree ? qq{lua_package_path "$tree/usr/share/lua/5.1/?.lua;;";} : '';
$t->html('a.txt', "plain\n");

my $load = "load_module $ndk; load_module $lua;";
$t->start(main => $load, http => <<"EOC");
    $libraries
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    log_by_lua_block {
        local ns = ngx.var.request_cpu_ns
        local x = 0 for i = 1, 20000 do x = x + i % 7 end
        ngx.log(ngx.NOTICE, "span ", ngx.var.host, " ", ns, " ", ngx.var.request_cpu_ns)
    }
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /inner.txt { try_files /none \@inner; }
        location \@inner { rewrite ^ /a.txt break; }
    }
EOC
my %uri = ('plain.test' => '/a.txt', 'inner.test' => '/inner.txt', 'missing.test' => '/missing');
$t->get($uri{$_}, host => $_) for sort keys %uri;
my %logged = map { $_->{host} => $_->{ns} } $t->logged(3);
wait_until(10, sub { (() = $t->error_log =~ /span \S+ \d/g) == 3 });
for my $host (sort keys %uri) {
    my ($first, $second) = $t->error_log =~ /span \Q$host\E (\d+) (\d+)/;
    ok($first, "$host: the value is there in the log phase");
    is($first, $logged{$host}, "$host: it is that of the access log");
    is($second, $first, "$host: and final, also after work in the log phase");
}

$t->done;
