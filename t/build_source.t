# scripts/build --source: it recognises the server of a source or a binary, and configures the source. Nothing is
# compiled here: the source is a stand-in whose configure writes its arguments to a file.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $root = "$FindBin::Bin/..";
my $temp = File::Temp->newdir('request-cpu-XXXXXX', TMPDIR => 1);
my $dir = $temp->dirname;
# use a copy, since the script configures below its own folder
make_path("$dir/here/scripts", "$dir/bin");
system('cp', "$root/scripts/lib.sh", "$dir/here/scripts/") == 0 or die "cp\n";

sub spew {
    my ($path, $text) = @_;
    open my $file, '>', $path or die "$path: $!\n";
    print {$file} $text;
    close $file;
}

# Makes a source with this nginx.h. Its configure knows only these options, and options with a value.
sub source {
    my ($name, $header, %option) = @_;
    make_path("$dir/$name/src/core", "$dir/$name/auto");
    spew("$dir/$name/src/core/nginx.h", $header);
    spew("$dir/$name/src/core/angie.h", $option{angie}) if $option{angie};
    spew("$dir/$name/auto/options", join '', map { "        $_)   SOMETHING=YES ;;\n" } @{ $option{options} || [] });
    spew("$dir/$name/auto/configure", <<'EOC');
#!/bin/sh
printf '%s\n' "$@"
for argument; do
    case $argument in
    *jemalloc* | '') echo "$0: error: the invalid value in --with-ld-opt=\"$argument\"" && exit 1 ;;
    --builddir=*)
        mkdir -p "${argument#*=}" && echo 'CFLAGS = -O' >"${argument#*=}/Makefile"
        touch "${argument#*=}/ngx_auto_config.h" ;;
    esac
done
EOC
    chmod 0755, "$dir/$name/auto/configure";
    return "$dir/$name";
}

# Puts a server into PATH that prints this for -V.
sub install {
    my ($name, $version, $arguments) = @_;
    spew("$dir/bin/$name", "#!/bin/sh\ncat >&2 <<'EOF'\n$version\nconfigure arguments:$arguments\nEOF\n");
    chmod 0755, "$dir/bin/$name";
}

sub shell {
    my ($command, @arguments) = @_;
    local $ENV{PATH} = "$dir/bin:$ENV{PATH}";
    my ($status, $output) = run_command('bash', '-c', "set -euo pipefail; . '$dir/here/scripts/lib.sh'; $command",
        'build', @arguments);
    chomp $output;
    return ($status, $output);
}

# The arguments that a source is configured with, less the folder that is always added.
sub configured {
    my ($source, @arguments) = @_;
    system('rm', '-rf', "$dir/here/target");
    my ($status, $output) = shell('use_source "$@"; cat "$NGINX_BUILD_DIR/../configure.log"', $source, @arguments);
    return ($status, $output, [ grep { /^--/ && !/^--builddir=/ } split /\n/, $output ]);
}

my $header = qq{#define NGINX_VERSION      "1.30.4"\n#define NGINX_VER          "nginx/" NGINX_VERSION\n};
my @all = qw(--with-compat --with-threads --with-http_ssl_module --with-http_v2_module --with-http_v3_module);
my $nginx = source('nginx', $header, options => \@all);
my $openresty = source('openresty',
    qq{#define NGINX_VERSION "1.31.3"\n#define NGINX_VER          "openresty/" NGINX_VERSION ".1"\n}, options => \@all);
my $freenginx = source('freenginx',
    qq{#define NGINX_VERSION      "1.27.2"\n#define NGINX_NAME         "freenginx"\n#define NGINX_VER          NGINX_NAME "/" NGINX_VERSION\n}, options => \@all);
my $tengine = source('tengine',
    qq{#define NGINX_VERSION      "1.31.3"\n#define NGINX_VER          "nginx/" NGINX_VERSION\n#define TENGINE_VERSION    "3.2.0"\n}, options => [ @all[0 .. 3] ]);
my $angie = source('angie',
    qq{#define NGINX_VERSION      "1.31.2"\n#define NGINX_VER          "nginx/" NGINX_VERSION\n},
    angie => qq{#define ANGIE_VERSION      "1.13.0"\n});

# Paths
like((shell('cd /; from_start "$1"; from_start "$2"', 'a b', "$dir/c"))[1], qr{^/.+/a b\n\Q$dir\E/c$},
    'a folder that is given is relative to the folder in which the program was started');

# Names
my %name = ($nginx => 'nginx-1.30.4', $openresty => 'openresty-1.31.3.1', $freenginx => 'freenginx-1.27.2',
    $tengine => 'tengine-3.2.0', $angie => 'angie-1.13.0');
is((shell('source_name "$1"', $_))[1], $name{$_}, "a source is $name{$_}") for sort keys %name;
my %says = (
    'nginx-1.30.4'       => 'nginx version: nginx/1.30.4 (Debian)',
    'openresty-1.31.3.1' => 'nginx version: openresty/1.31.3.1',
    'tengine-3.2.0'      => "Tengine version: Tengine/3.2.0\nnginx version: nginx/1.31.3",
    'freenginx-1.27.2'   => 'nginx version: freenginx/1.27.2',
    'angie-1.13.0'       => 'Angie version: Angie/1.13.0',
);
for my $name (sort keys %says) {
    install('server', $says{$name}, '');
    is((shell('binary_name server'))[1], $name, "a binary is $name");
}
like((shell('use_source "$1"; echo "$variant"', $tengine))[1], qr/^source-tengine-3\.2\.0$/m,
    'each server has target folders of its own');

# Defaults
my ($status, $output, $arguments) = configured($nginx);
is_deeply($arguments, \@all,
    'a source of a server that is not installed is configured with all that the module can use');
($status, $output, $arguments) = configured($tengine);
is_deeply($arguments, [ @all[0 .. 3] ], 'options that a source does not know are left out');

my $makefile = '; cat "$NGINX_BUILD_DIR/Makefile"';
like((shell('use_source "$1"' . $makefile, $angie))[1], qr/^CFLAGS = -Dangie_sign=spare1 -O$/m,
    'headers of Angie are read with the name that nginx-sys has for angie_sign');
unlike((shell('use_source "$1"' . $makefile, $nginx))[1], qr/angie/, 'headers of NGINX as they are');

# As the installed one
install('nginx', 'nginx version: nginx/1.30.4', '');
($status, $output, $arguments) = configured($nginx);
is($status, 0, 'a server that was configured without arguments is built for');
is_deeply($arguments, [], 'with no argument, since such a server loads no module that was built with --with-compat');

install('nginx', 'nginx version: nginx/1.30.4',
    q{ --prefix=/x --with-cc-opt='-O2 -flto=auto -DA=1 -specs=/usr/lib/rpm/redhat/redhat-hardened-cc1 -U B -I/opt/include -march=native -m64' }
        . q{--with-ld-opt='-specs=/usr/lib/rpm/redhat/redhat-hardened-ld -Wl,-z,now -ljemalloc -L/opt/lib -Wl,-rpath,/opt/lib' --add-module=/build/x --with-http_v2_module});
($status, $output, $arguments) = configured($nginx);
is($status, 0, "a distribution's flags do not keep a source from being configured");
is_deeply($arguments, [ '--prefix=/x', '--with-cc-opt=-DA=1 -U B -I/opt/include -m64',
    '--with-ld-opt=-L/opt/lib -Wl,-rpath,/opt/lib', '--with-http_v2_module' ],
    'flags of the build host are left out, and macros and folders are kept');

install('nginx', 'nginx version: nginx/1.30.4', q{ --with-cc-opt='-O2 -specs=/x' --with-ld-opt=-flto});
is_deeply((configured($nginx))[2], [], 'options of which nothing is left are left out');

install('nginx', 'nginx version: nginx/1.30.3', ' --with-debug');
is_deeply((configured($nginx))[2], \@all, 'a server of another version says nothing');

# Given
($status, $output, $arguments) = configured($nginx, '--with-debug');
is_deeply($arguments, [ '--with-debug', '--with-compat' ],
    'arguments that are given get the one that makes a module loadable');
($status, $output, $arguments) = configured($nginx, '--with-compat', '--with-debug');
is_deeply($arguments, [ '--with-compat', '--with-debug' ], 'arguments that are given are used');
($status, $output) = configured($nginx, '--with-debug', '--with-ld-opt=-ljemalloc');
is($status, 1, 'a configure that fails ends the build');
like($output, qr/failed because of "--with-ld-opt=-ljemalloc"\nIts arguments came from the command line:\n +--with-debug\n/,
    'and the option is named, and where it is from');

done_testing();
