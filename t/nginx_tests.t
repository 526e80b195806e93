# tools/nginx-tests compares each file of a test suite with and without the module. It tells a file that fails only
# with the module from one that fails anyway, and from one that is unsteady anyway. The suite here is made up.
use strict;
use warnings;
use File::Spec;
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu::Process qw(run_command);
use Time::HiRes qw(time);

my ($nginx, $module) = map { $ENV{$_} // plan(skip_all => "$_ is not set") } qw(TEST_NGINX_BINARY TEST_NGINX_MODULE);
my $root = File::Spec->rel2abs("$FindBin::Bin/..");
my $dir = tempdir(CLEANUP => 1);
local $ENV{TMPDIR} = tempdir(CLEANUP => 1);

sub test_file {
    my ($name, $text) = @_;
    open my $file, '>', "$dir/$name" or die "$name: $!\n";
    print {$file} "use strict; use warnings; use Test::More;\n$text";
    close $file or die "$name: $!\n";
    return;
}

sub tool {
    my (@arguments) = @_;
    return run_command("$root/tools/nginx-tests", '--nginx', $nginx, '--module', $module, '--jobs', 4, @arguments);
}

my $with_module = '($ENV{TEST_NGINX_GLOBALS} // q()) =~ /load_module/';
# the n-th run with this server, from 1
my $nth = 'my $n = () = do { my $p = ' . "'$dir/'" . ' . ' . "($with_module ? 'm' : 'a')" . ' . ($0 =~ s{.*/}{}r);
    open my $f, "+>>", $p or die; print {$f} "x\n"; seek $f, 0, 0; <$f> };' . "\n";

test_file('passes.t', 'plan tests => 2; ok(1); ok(1);');
test_file('skipped.t', 'plan skip_all => "no luck";');
test_file('fails.t', 'plan tests => 3; ok(1); ok(0); ok(0);');
test_file('dies.t', 'plan tests => 3; ok(1); die "gone\n";');
test_file('module_only.t', "plan tests => 2; ok(1); ok(!($with_module));");
test_file('unsteady.t', $nth . 'plan tests => 1; ok($n == 1 ? ' . $with_module . ' : $n == 2);');
test_file('unsteady_with.t', $nth . "plan tests => 1; ok(!($with_module) || \$n > 1);");
test_file('hangs.t', 'plan tests => 2; ok(1); system("sleep 600 &"); sleep 600;');

# a real server, in the way in which the suite runs it
test_file('server.t', <<'T');
use File::Temp qw(tempdir);
use HTTP::Tiny;
use IO::Socket::INET;
plan tests => 2;
my $dir = tempdir(CLEANUP => 1);
my $port = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)->sockport;
open my $conf, '>', "$dir/nginx.conf" or die;
print {$conf} "pid $dir/pid; error_log $dir/error.log; $ENV{TEST_NGINX_GLOBALS} daemon off; events { }
    http { $ENV{TEST_NGINX_GLOBALS_HTTP} client_body_temp_path $dir/b; proxy_temp_path $dir/p;
    fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
    server { listen 127.0.0.1:$port; location / { return 200 fine; } } }";
close $conf;
my $pid = fork;
if (!$pid) { exec $ENV{TEST_NGINX_BINARY}, '-p', $dir, '-c', 'nginx.conf', '-e', 'error.log'; }
for (1 .. 100) { last if -s "$dir/pid"; select undef, undef, undef, 0.1 }
is(HTTP::Tiny->new->get("http://127.0.0.1:$port/")->{content}, 'fine') for 1 .. 2;
kill 'QUIT', $pid;
waitpid $pid, 0;
T

my $begin = time;
my ($status, $output) = tool('--time-limit', 5, $dir);
cmp_ok(time - $begin, '<', 120, 'a file that hangs is ended');
is($status, 1, 'a file that fails only with the module is a fault');
like($output, qr{^without the module +4 +4 +1 .*\nwith the module +3 +5 +1 }m, 'the table') or diag($output);
like($output, qr/^fails without the module too:\n/m, 'files that fail in both are listed');
like($output, qr/^  fails\.t: 1 passed, failed 2-3$/m, 'with the numbers of the failed tests');
like($output, qr/^  dies\.t: 1 passed, 1 of 3 tests were run, exit status 255$/m, 'a test that dies');
like($output, qr/^  hangs\.t: 1 passed, out of time$/m, 'a test that hangs');
like($output, qr/^  module_only\.t\n    without: 2 passed \(4 of 4 runs\)\n    with:    1 passed, failed 2 \(4 of 4 runs\)$/m,
    'a file that fails only with the module was run again');
like($output, qr/^  unsteady_with\.t\n    without: 1 passed \(4 of 4 runs\)$/m,
    'a file that is unsteady only with the module');
my $unsteady = 'unsteady\.t: 0 passed, failed 1 \(3 of 4 runs\); 1 passed \(1 of 4 runs\)';
like($output, qr/^unsteady without the module:\n  $unsteady$/m, 'a file that is unsteady anyway');
like($output, qr/^2 of 9 files differ: module_only\.t unsteady_with\.t$/m, 'the faults, in the last line');
like($output, qr/^The module counted 2 requests in 1 files\./m, 'requests are counted with the module only');
is_deeply([ glob "$ENV{TMPDIR}/*" ], [], 'no file remains');

($status, $output) = tool($dir, 'passes.t', 'server.t');
is($status, 0, 'without a difference, the status is 0') or diag($output);
like($output, qr/^no file differs$/m, 'and the message says so');

for my $case (
    [ [] => qr/the folder of the test suite is missing/ ],
    [ [ '/nowhere' ] => qr{"/nowhere" is no folder} ],
    [ [ $dir, 'other.t' ] => qr/there is no "other\.t" in / ],
    [ [ '--jobs', 'many', $dir ] => qr/--jobs takes a whole number/ ],
    [ [ '--nginx', '/nowhere', $dir ] => qr/--nginx takes a program/ ]) {
    my ($arguments, $message) = @$case;
    ($status, $output) = tool(@$arguments);
    is($status, 2, "refused: @$arguments");
    like($output, $message, 'with a message');
}

done_testing;
