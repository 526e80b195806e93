# lua: work in its timers and sockets is attributed to the request that started them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
my ($ndk, $lua) = map { $t->_dynamic($_) } 'ndk_http_module.so', 'ngx_http_lua_module.so';
plan(skip_all => "nginx/@{[ $t->version ]} here has no lua") unless $ndk && $lua;
# the folder of lua's libraries, if the package was unpacked outside of the system's folders
my ($tree) = $lua =~ m{^(.+)/usr/lib/nginx/modules/};
my $libraries = $tree ? qq{lua_package_path "$tree/usr/share/lua/5.1/?.lua;;";} : '';
my $dir = $t->dir;
my ($failed, $output) = run_command('openssl', 'req', '-x509', '-nodes', '-newkey', 'ec', '-pkeyopt',
    'ec_paramgen_curve:P-256', '-days', 2,
    '-subj', '/CN=lua.test', '-keyout', "$dir/key.pem", '-out', "$dir/cert.pem");
die $output if $failed;

# A server that answers each line
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port('lines'), Listen => 64,
    ReuseAddr => 1) or die "listen: $@\n";
$t->spawn(sub {
    my $select = IO::Select->new($listen);
    while (1) {
        for my $socket ($select->can_read) {
            if ($socket == $listen) { $select->add($listen->accept) }
            elsif (sysread $socket, my $data, 1000) { syswrite $socket, "answer\n" }
            else { $select->remove($socket); close $socket }
        }
    }
});

my $ask = 'local s = ngx.socket.tcp() s:connect("127.0.0.1", {{port:lines}}) s:send("ask\n") s:receive()';
my $burn = 'local x = 0 for i = 1, 200000 do x = x + i % 7 end';
$t->start(main => "load_module $ndk; load_module $lua;", http => <<"EOC");
    $libraries
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        location = /socket { content_by_lua_block { $ask s:close() ngx.say('done') } }
        location = /idle { content_by_lua_block { $ask s:setkeepalive(700, 10) ngx.say('done') } }
        location = /sleep { content_by_lua_block { ngx.sleep(0.01) $burn ngx.say(x) } }
        location = /timer { content_by_lua_block { ngx.timer.at(0, function() $burn end) ngx.say('done') } }
    }
    server {
        listen 127.0.0.1:{{port:tls}} ssl;
        ssl_certificate $dir/cert.pem; ssl_certificate_key $dir/key.pem;
        ssl_certificate_by_lua_block { $ask s:setkeepalive(10000, 10) }
        location / { return 200 "secure\\n"; }
    }
EOC

sub books { my ($worker) = @{ $t->status->{workers} }; return $worker }

# The part of the work of a function, outside of the event loop, that stays without an owner.
sub others_share {
    my ($code) = @_;
    my $before = books();
    $code->();
    $t->quiet;
    my $after = books();
    my ($other, $all, $loop) = map { $after->{$_} - $before->{$_} } qw(other_ns thread_cpu_ns loop_ns);
    return $other / ($all - $loop);
}

for my $case ([ 'a socket', '/socket' ], [ 'a sleep', '/sleep' ]) {
    my ($name, $uri) = @$case;
    my $share = others_share(sub { $t->get($uri, host => 'lua.test') for 1 .. 50 });
    cmp_ok($share, '<', 0.01, sprintf '%s: %.3f %% has no owner', $name, 100 * $share);
}

my $share = others_share(sub {
    for (1 .. 30) {
        my ($status) = run_command('curl', '-sk', '-o', '/dev/null', "https://127.0.0.1:@{[ $t->port('tls') ]}/");
        die "no handshake\n" if $status;
    }
});
cmp_ok($share, '<', 0.03, sprintf 'certificates that are waited for: %.3f %%', 100 * $share);

# A socket that is kept open, and closed by its timeout
$t->get('/idle', host => 'idle.test');
my $was = $t->account_with('hosts', 'idle.test', 1)->{cpu_ns};
ok(wait_until(60, sub { $t->account('hosts', 'idle.test')->{cpu_ns} > $was }),
    'closing an idle socket is charged to whom it was used for');

# Work that a request starts and leaves behind is not charged to the request
my $before = books()->{other_ns};
my ($charged, $used) = $t->charged_and_used(20, sub { $t->get('/timer', host => 'timer.test') for 1 .. 20 });
my $left = books()->{other_ns} - $before;
cmp_ok($charged, '<', $used / 2, 'a detached timer is not charged to the request that set it');
cmp_ok($left, '>', $used / 3, 'it has no owner');

$t->done;
