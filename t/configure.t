# NGINX's ./configure with --add-module and --add-dynamic-module: the place of the module among NGINX's modules, and the
# rules that make then follows. Nothing is compiled here: a stand-in for configure reads `config` and `config.make` as
# NGINX does (auto/modules, auto/make), and a stand-in for cargo writes its arguments into the result.

use strict;
use warnings;

use Cwd qw(realpath);
use File::Path qw(make_path);
use File::Temp ();
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $root = realpath("$FindBin::Bin/..");
my $temp = File::Temp->newdir('request-cpu-XXXXXX', TMPDIR => 1);
my $dir = $temp->dirname;

sub spew {
    my ($path, $text) = @_;
    open my $file, '>', $path or die "$path: $!\n";
    print {$file} $text;
    close $file;
    chmod 0755, $path;
}

sub slurp {
    my ($path) = @_;
    open my $file, '<', $path or return '';
    local $/;
    return scalar <$file>;
}

my $name = 'ngx_http_request_cpu_module';
# rustc writes the kind of library that it is told
spew("$dir/cargo", <<"EOC");
#!/bin/sh
[ "\$1" = --version ] && exit
result=lib$name.so
case "\$*" in *staticlib*) result=lib$name.a ;; esac
mkdir -p "\$CARGO_TARGET_DIR/release"
echo "\$PWD \$NGINX_SOURCE_DIR \$NGINX_BUILD_DIR \$*" >"\$CARGO_TARGET_DIR/release/\$result"
echo called >>"$dir/calls"
EOC

# Reads the files of this folder, or of a copy of it, with a link type for each time that the module is added.
our $server = 'nginx';
sub configure {
    my ($folder, @links) = @_;
    system('rm', '-rf', "$dir/nginx", "$dir/calls");
    make_path("$dir/nginx/auto", "$dir/nginx/objs");
    if ($server eq 'angie') {
        make_path("$dir/nginx/src/core");
        spew("$dir/nginx/src/core/angie.h", '');
    }
    spew("$dir/nginx/auto/module", <<'EOC');
case $ngx_module_link in
ADDON) echo "$ngx_module_type: $ngx_module_name"; CORE_LIBS="$CORE_LIBS $ngx_module_libs" ;;
DYNAMIC) echo "dynamic: $ngx_module_name" ;;
esac
EOC
    # configure has another shell than bash on some systems
    spew("$dir/nginx/configure", <<'EOC');
#!/bin/sh
NGX_OBJS=objs NGX_MAKEFILE=objs/Makefile NGX_PREFIX=/opt/nginx NGX_MODULES_PATH=modules HTTP=${HTTP:-YES}
CORE_LIBS=-lcrypt
for ngx_module_link; do
    ngx_module_type= ngx_module_name= ngx_module_srcs= ngx_module_libs= ngx_module_order=
    . $ngx_addon_dir/config
done
touch objs/ngx_auto_config.h
cat >$NGX_MAKEFILE <<END
build: objs/$SERVER
objs/$SERVER: objs/nginx.o
	echo linked $CORE_LIBS >objs/$SERVER
objs/nginx.o:
	touch objs/nginx.o
modules:
install: build
END
for ngx_module_link; do
    . $ngx_addon_dir/config.make
done
EOC
    local $ENV{ngx_addon_dir} = $folder;
    local $ENV{CARGO} = "$dir/cargo";
    local $ENV{SERVER} = $server;
    return run_command('sh', '-c', 'cd "$0" && ./configure "$@" 2>&1', "$dir/nginx", @links);
}

sub run_make { return run_command('make', '-s', '-C', "$dir/nginx", '-f', 'objs/Makefile', @_) }

sub calls { return scalar(() = slurp("$dir/calls") =~ /called/g) }

sub in_install { return grep { -e "$dir/install/opt/nginx/modules/$_" } "$name.so", "$name.so.old" }

my $objs = "$dir/nginx/objs";
my $called = "$root $dir/nginx $objs";

# --add-module
my ($status, $output) = configure($root, 'ADDON');
is($status, 0, 'a static module is configured');
is($output, "HTTP_INIT_FILTER: $name\n",
    'it has the type whose modules come last in HTTP, as a module that is loaded does');
($status, $output) = run_make();
is($status, 0, 'make builds NGINX') or diag($output);
my $archive = "objs/request_cpu/release/lib$name.a";
is(slurp("$dir/nginx/$archive"),
    "$called rustc --lib --crate-type staticlib --features static --release --locked --no-default-features\n",
    'cargo builds a static library for this NGINX');
like(slurp("$objs/nginx"), qr/^linked .* \Q$archive\E -lm /, 'NGINX is linked with it');
run_make();
is(calls(), 1, 'make does not call cargo again if nothing has changed');
utime 1, 1, "$dir/nginx/$archive";
spew("$objs/nginx", '');
run_make();
is(calls(), 2, 'make calls cargo if a source of the module is newer');
like(slurp("$objs/nginx"), qr/^linked/, 'and links NGINX again');
is((run_make('install', "DESTDIR=$dir/install"))[0], 0, 'make install');
is(join(' ', in_install()), '', 'installs no library');

# Angie's make links a program of another name
{
    local $server = 'angie';
    ($status, $output) = configure($root, 'ADDON');
    is($status, 0, 'a static module is configured for Angie');
    ($status, $output) = run_make();
    is($status, 0, 'make builds Angie') or diag($output);
    is(calls(), 1, 'make calls cargo before it links Angie');
    like(slurp("$objs/angie"), qr/^linked .* \Q$archive\E -lm /, 'and links Angie with the module');
}

# --add-dynamic-module
($status, $output) = configure($root, 'DYNAMIC');
is("$status$output", '0', 'a dynamic module is configured by the rules for make only');
is((run_make('modules'))[0], 0, 'make modules');
is(slurp("$objs/$name.so"), "$called build --release --locked --no-default-features\n", 'builds it with cargo');
is((run_make())[0], 0, 'make');
is(slurp("$objs/nginx"), "linked -lcrypt\n", 'links NGINX without the module');
run_make('install', "DESTDIR=$dir/install") for 1, 2;
is(calls(), 1, 'make install does not call cargo again');
is(join(' ', in_install()), "$name.so $name.so.old", 'and keeps the library that was installed before');

# Refused
($status, $output) = configure($root, 'ADDON', 'DYNAMIC');
is($status, 1, 'the module cannot be both');
like($output, qr/error: $name is added twice/, 'and the reason is said');
{
    local $ENV{HTTP} = 'NO';
    ($status, $output) = configure($root, 'ADDON');
    is($status, 1, 'NGINX without HTTP is refused');
    like($output, qr/configured --without-http/, 'and the reason is said');
}

done_testing();
