# Which location decides where a request is counted, if the request passes several locations.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;

my $t = Test::RequestCpu->new->need('gzip');
my $subrequests = $t->has('auth_request');
my ($ndk, $lua) = map { $t->_dynamic($_) } 'ndk_http_module.so', 'ngx_http_lua_module.so';
$t->html('off/text.txt', words(1_000_000));
$t->html('a.txt', "plain\n");
$t->html('dir/none.txt', "none\n");
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    return $connection->answer('', headers => { 'X-Accel-Redirect' => '/off/text.txt' }) if $request->{uri} =~ /accel/;
    return $connection->answer("gone\n", status => '404 Not Found') if $request->{uri} =~ /gone/;
    return $connection->answer("answer\n");
});
my $proxy = 'proxy_pass http://127.0.0.1:{{port:upstream}};';
my $auth = $subrequests ? "location = /auth { auth_request /off/auth; root {{dir}}/html; try_files /a.txt =404; }" : '';
my $exec = $lua ? "location = /exec { content_by_lua_block { ngx.exec('/off/text.txt') } }" : '';
my ($modules, $libraries) = ("", "");
if ($lua) {
    $modules = "load_module $ndk; load_module $lua;";
    my ($tree) = $lua =~ m{^(.+)/usr/lib/nginx/modules/};
    $libraries = qq{lua_package_path "$tree/usr/share/lua/5.1/?.lua;;";} if $tree;
}
$t->start(main => $modules, http => <<"EOC");
    $libraries
    request_cpu_zone \$host zone=z:1m;
    request_cpu_zone \$host zone=u:1m;
    request_cpu zone=z;
    server {
        listen 127.0.0.1:{{port:http}};
        # static, and dear
        location /off/ { request_cpu off; gzip on; gzip_types *; gzip_comp_level 9; root {{dir}}/html; }
        location = /off/auth { request_cpu off; return 204; }
        location \@off { request_cpu off; return 200 "off\\n"; }
        location \@off_proxy { request_cpu off; $proxy }
        location = /accel { $proxy }
        location = /limited/accel { request_cpu_limit zone=z cores=0.01 burst=10ms; $proxy }
        location = /refused { request_cpu_limit zone=z cores=0.01 burst=10ms; error_page 429 = \@off; $proxy }
        location = /error { error_page 404 = \@off_proxy; root {{dir}}/none; }
        location = /intercept/gone { $proxy proxy_intercept_errors on; error_page 404 = \@off; }
        location = /try { try_files /none \@off; }
        location /dir/ { index /off/text.txt; root {{dir}}/html; }
        location = /rewritten { rewrite ^ /off/text.txt last; }
        location = /returned { error_page 418 = \@off; return 418; }
        location = /both { request_cpu zone=z zone=u; try_files /none \@one; }
        location \@one { request_cpu zone=u; $proxy }
        location = /into { request_cpu off; try_files /none \@one; }
        location = /into_return { request_cpu off; try_files /none \@return; }
        location \@return { request_cpu zone=u; return 200 "returned\\n"; }
        $auth
        $exec
    }
    server {
        listen 127.0.0.1:{{port:after}};
        location \@off { request_cpu off; proxy_pass http://127.0.0.1:1; }
        location \@z { proxy_pass http://127.0.0.1:1; }
        location \@u { request_cpu zone=u; request_cpu_limit zone=u cores=0.001 burst=0; $proxy }
        location = /off { request_cpu zone=z zone=u; post_action \@off; try_files /a.txt =404; }
        location = /z { request_cpu zone=z zone=u; post_action \@z; try_files /a.txt =404; }
        location = /none { request_cpu zone=z zone=u; try_files /a.txt =404; }
        location = /returned { request_cpu zone=z zone=u; post_action \@off; return 200 "x"; }
        location = /u { post_action \@u; try_files /a.txt =404; }
        location = /from_off { request_cpu off; post_action \@u; try_files /a.txt =404; }
        location = /from_off_returned { request_cpu off; post_action \@u; return 200 "x"; }
    }
EOC
$t->expect_log(qr/connect\(\) failed|No such file|is not found|limiting requests/);

my $number = 0;
# Sends a request with its own host. Checks which zones have it, and its class there. Returns the accounts.
sub counted_in {
    my ($uri, $zones, $name, %option) = @_;
    my $host = 'h' . ++$number . '.test';
    my $answer = $t->get($uri, host => $host, port => $option{port});
    is($answer->{status}, $option{status} || 200, "$name: the answer");
    $t->logged(1, sub { $_[0]{host} eq $host });
    $t->quiet;
    my $status = $t->status;
    my %account = map { my $found = $status->{zones}{$_}{keys}{$host}; $found && $found->{requests} ? ($_ => $found)
        : () } qw(z u);
    is(join(' ', sort keys %account), $zones, "$name: it is counted in " . ($zones || 'no zone'));
    my $class = substr($option{status} || 200, 0, 1) . 'xx';
    is($_->{responses}{$class}, 1, "$name: as it was answered") for values %account;
    my ($line) = $t->logged(1, sub { $_[0]{host} eq $host });
    cmp_ok($_->{cpu_ns}, '>=', $line->{ns}, "$name: with its CPU") for values %account;
    return \%account;
}

my $burnt = counted_in('/accel', 'z', 'X-Accel-Redirect into a location with "off"');
cmp_ok($burnt->{z}{sent_bytes}, '>', 100, 'the work of that location is counted');
counted_in('/error', 'z', 'error_page of a file that is not there');
counted_in('/intercept/gone', 'z', 'an intercepted error of an upstream');
counted_in('/try', 'z', 'try_files');
counted_in('/dir/', 'z', 'an index');
counted_in('/rewritten', '', 'a rewrite, which comes before the preaccess phase');
counted_in('/returned', '', 'return and error_page, which come before the preaccess phase too');
counted_in('/both', 'u', 'from two zones to one of them');
counted_in('/into', 'u', 'from "off" into a zone');
counted_in('/into_return', 'u', 'from "off" into a zone that answers by return');
SKIP: {
    skip 'no auth_request', 1 unless $subrequests;
    counted_in('/auth', 'z', 'a subrequest in a location with "off"');
}
SKIP: {
    skip 'no lua', 1 unless $lua;
    counted_in('/exec', 'z', 'ngx.exec');
}

# A limit includes the work after the redirect
my %status;
$status{ $t->get('/limited/accel', host => 'tenant.test', headers => { 'Accept-Encoding' => 'gzip' })->{status} }++
    for 1 .. 6;
cmp_ok($status{429} || 0, '>=', 3, 'a limit counts the work of a location with "off"') or diag(explain(\%status));
my $tenant = $t->account_with('z', 'tenant.test', 6);
is($tenant->{requests}, 6, 'all requests are in the account');
$t->get('/refused', host => 'tenant.test');
my $refused = $t->account_with('z', 'tenant.test', 7);
is($refused->{requests}, 7, 'one that is refused, and answered by a location with "off", is in the account');
cmp_ok($refused->{limit}{refused_cpu_ns}, '>', $tenant->{limit}{refused_cpu_ns}, 'as refused');

# Work after the answer changes nothing
my %after = (port => 'after');
counted_in('/none', 'u z', 'without post_action', %after);
counted_in('/off', 'u z', 'post_action in a location with "off"', %after);
counted_in('/z', 'u z', 'post_action in a location with one of the zones', %after);
counted_in('/returned', 'u z', 'return, then post_action', %after);
counted_in('/u', 'z', 'post_action in a location of another zone', %after);
my $limited = $t->account('z', "h$number.test");
ok(!$limited->{limit}, 'which has a limit, and is not checked');
counted_in('/from_off', '', 'post_action of a location with "off"', %after);
counted_in('/from_off_returned', '', 'the same with return', %after);

$t->done;
