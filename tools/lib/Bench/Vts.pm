# Builds nginx-module-vts for the vendored NGINX, to compare with.
package Bench::Vts;

use strict;
use warnings;
use Bench::Servers qw($nginx);
use Exporter qw(import);
use Tool qw($root progress);

our @EXPORT_OK = qw(build_vts);

# The module built from the source in a folder, which stays as it is. The objects are below target/vts.
sub build_vts {
    my ($folder) = @_;
    progress('building nginx-module-vts');
    my $log = "$root/target/vts.log";
    my $made = system('bash', '-c', <<'BASH', 'vts', $root, $nginx, $folder, $log);
exec >"$4" 2>&1
set -euo pipefail
. "$1/scripts/lib.sh"
cd "$root"
source=$(cargo metadata --format-version 1 --locked |
    grep -o '"manifest_path":"[^"]*/nginx-src-[^"]*/Cargo.toml"' | cut -d '"' -f 4)
mapfile -t arguments < <("$2" -V 2>&1 | sed -n 's/^configure arguments: //p' | xargs -n1 | grep -v '^--builddir=')
use_configured vts "${source%/Cargo.toml}/nginx" "${arguments[@]}" "--add-dynamic-module=$3"
make -C "$NGINX_SOURCE_DIR" -f "$NGINX_BUILD_DIR/Makefile" modules
BASH
    progress('');
    my $module = "$root/target/vts/nginx/objs/ngx_http_vhost_traffic_status_module.so";
    $made == 0 && -f $module or die "bench: nginx-module-vts was not built; see $log\n";
    return $module;
}

1;
