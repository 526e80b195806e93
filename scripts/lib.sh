# shellcheck shell=bash disable=SC2034
#
# What the programs of scripts/ and tools/ in this language share: messages, packages, and where an NGINX comes from.
# Sourced, not run. Messages go to stderr, so that stdout stays for what a caller may want to capture.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
# Paths that a user gives are relative to this folder, and a program may change its working directory.
readonly started_in=$PWD
# the path with its folder, since a program may change the working directory
program=$(cd "$(dirname "$0")" && pwd)/${0##*/}
readonly program
readonly module_file=ngx_http_request_cpu_module.so
readonly oldest_nginx=1.22

# numbers have a decimal point, and messages are in English so that they can be searched for
export LC_ALL=C

# the PATH of a root shell opened by su or sudo lacks rustup's proxies; the PATH of an ordinary user lacks sbin
PATH=$PATH:$HOME/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin

# ---- messages -----------------------------------------------------------------------------------------------------

bold='' dim='' red='' green='' plain=''
if [[ -t 1 && -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi
export bold dim red green plain

say() { printf '%s\n' "$*" >&2; }

die() {
    printf '%s\n' "${red}${0##*/}: $1${plain}" "${@:2}" >&2
    exit 1
}

# from_start PATH: the absolute path.
from_start() { if [[ $1 == /* ]]; then printf '%s\n' "$1"; else printf '%s\n' "$started_in/$1"; fi; }

has() { command -v "$1" >/dev/null 2>&1; }

# The comment block at the head of a script is its --help.
usage() { sed -n '2,/^[^#]/ { /^[^#]/d; /^$/d; s/^# \{0,1\}//; p }' "$program"; }

# ---- progress -----------------------------------------------------------------------------------------------------

on_terminal() { [[ -t 2 && ${TERM:-dumb} != dumb ]]; }

spin=0
progress() {
    local frames="|/-\\" width
    width=$(tput cols 2>/dev/null || echo 80)
    printf '\r\e[K%s %s' "${frames:spin++ % 4:1}" "${1:0:width-4}" >&2
}

clear_progress() { if on_terminal; then printf '\r\e[K' >&2; fi; }

# quietly LOG COMMAND…: writes the output of COMMAND to LOG, and shows the time and the current step. If COMMAND
# fails, shows all of LOG.
quietly() {
    local log=$1 status=0
    shift
    mkdir -p "${log%/*}"
    : >"$log"
    watch_log "$log" &
    watcher=$!
    "$@" >"$log" 2>&1 </dev/null || status=$?
    stop_watching
    ((status == 0)) || cat "$log" >&2
    return "$status"
}

watcher=''
stop_watching() {
    if [[ $watcher ]]; then
        kill "$watcher" 2>/dev/null || true
        wait "$watcher" 2>/dev/null || true
        watcher=''
    fi
    clear_progress
}

# the message while nginx-sys runs its build script; cargo prints nothing then
slow_step=''

watch_log() {
    local step shown_step last_step='' last_change=0 begin=$SECONDS now shown=0
    # the loop ends by itself if the script was killed
    while sleep 0.2 && kill -0 $$ 2>/dev/null; do
        now=$((SECONDS - begin))
        step=$(grep -oE '^ *(Compiling|Downloaded|Downloading|configuring|Finished|Get:|Unpacking|Setting up) ?.*' \
            "$1" | tail -n 1) || true
        step=${step#"${step%%[! ]*}"}
        if [[ $step != "$last_step" ]]; then
            last_step=$step last_change=$now
        fi
        shown_step=${step:-starting}
        # cargo names a crate once, and runs its build script later: the last line may not be the current step
        if [[ $slow_step ]] && ((now - last_change >= 5)) && grep -q '^ *Compiling nginx-sys' "$1"; then
            shown_step=$slow_step
        fi
        if on_terminal; then
            progress "$now s  $shown_step"
        elif ((now - shown >= 10)); then
            shown=$now
            say "  $now s: $shown_step"
        fi
    done
}

# ---- packages -----------------------------------------------------------------------------------------------------

# packages to compile the module for any NGINX, and to compile the vendored NGINX
readonly build_packages=(gcc make libc6-dev libclang-dev libpcre2-dev libssl-dev zlib1g-dev)
# Debian's NGINX, and its configured source
readonly system_packages=(nginx nginx-dev)
# modules that the vendored NGINX has built in, and a third-party module that is tested together with this one
readonly system_test_packages=(libnginx-mod-stream libnginx-mod-mail libnginx-mod-http-lua)
readonly demo_packages=(openssl curl perl nghttp2-client)
# promtool is in prometheus, vmalert in victoria-metrics. python3-venv is for the HTTP/3 client, for which Debian 12
# has no package. chromium is for t/page.t.
readonly test_packages=(openssl curl perl nghttp2-client prometheus
    victoria-metrics python3-venv chromium chromium-driver)

on_debian() { has dpkg-query && has apt-get; }

# need_packages NAME…: installs missing packages if it runs as root; otherwise lists them.
need_packages() {
    if ! on_debian; then
        need_commands
        return
    fi
    local -A installed=()
    local name status missing=()
    while read -r name status; do
        [[ $status != installed ]] || installed[$name]=1
    done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for name; do
        [[ ${installed[$name]:-} ]] || missing+=("$name")
    done
    ((${#missing[@]})) || return 0

    if ((EUID != 0)); then
        die "packages are missing; as root, run" "    apt-get install --no-install-recommends ${missing[*]}"
    fi
    apt_install "${missing[@]}"
}

# Runs in a subshell, so that its traps always remove the policy.
apt_install() (
    policy=/usr/sbin/policy-rc.d
    status=0
    # Debian's packages nginx, prometheus and victoria-metrics start a server when they are installed. policy-rc.d
    # prevents that (invoke-rc.d(8)). An existing policy-rc.d is the administrator's, and is not changed.
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"; stop_watching' EXIT
        trap 'exit 130' INT TERM HUP
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    else
        "$policy" nginx start >/dev/null 2>&1 || status=$?
        ((status == 101)) || die "$policy lets packages start their services; install these by hand: $*"
    fi

    say "installing with apt: $*"
    log=$root/target/apt.log
    export DEBIAN_FRONTEND=noninteractive
    # a broken third-party repository must not prevent the use of Debian's repository
    quietly "$log" apt-get update -q || say "apt-get update reported errors; going on"
    quietly "$log" apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "$@" || die "apt-get install failed"

    # do not start the services now, nor at the next boot
    if [[ -d /run/systemd/system ]]; then
        for unit in nginx prometheus victoria-metrics; do
            [[ " $* " != *" $unit "* ]] || systemctl disable --quiet "$unit.service" >&2 || true
        done
    fi
)

# Without apt, the script can check for commands, but not for headers.
need_commands() {
    local name missing=()
    for name in cc make perl openssl; do
        has "$name" || missing+=("$name")
    done
    ((${#missing[@]} == 0)) || die "not found: ${missing[*]}" \
        "On a system that is not Debian, install by hand: a C compiler, make, libclang, the headers of PCRE2, OpenSSL and zlib;" \
        "for the demonstration and the tests also openssl, curl, h2load (nghttp2), perl with JSON::PP and prove, prometheus with promtool, victoria-metrics."
}

need_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    has cargo || die "Rust $wanted or newer is needed, and cargo is not in PATH (rust-lang.org/tools/install)"
    have=$(cargo --version | cut -d' ' -f2)
    version_at_least "$have" "$wanted" || die "Rust $wanted or newer is needed, and cargo is $have"
}

# version_at_least 1.28.3 1.22
version_at_least() { printf '%s\n%s\n' "$2" "${1%%-*}" | sort -C -V; }

# ---- sources of NGINX ---------------------------------------------------------------------------------------------

# Each function use_… prepares cargo's environment for one NGINX. Each variant has its own target folder; otherwise
# nginx-sys would generate its bindings again at each change of the variant. The functions set:
#   variant        the name of the variant and of its folders
#   cargo_flags    additional arguments of cargo
cargo_flags=()
variant=

use_vendored() {
    variant=vendored
    cargo_flags=()
    export CARGO_TARGET_DIR=$root/target/vendored
    unset NGINX_SOURCE_DIR NGINX_BUILD_DIR
}

use_system() {
    local source=/usr/share/nginx/src
    [[ -r $source/conf_flags ]] || die "$source/conf_flags is not there: the package nginx-dev is needed for --system"
    # conf_flags is a fragment of bash that sets this array to the configure arguments of Debian's NGINX
    local NGX_CONF_FLAGS=()
    # shellcheck source=/dev/null
    . "$source/conf_flags"
    use_configured system "$source" "${NGX_CONF_FLAGS[@]}"
}

# NGINX of another suite of Debian, beside the system's NGINX. Its packages are unpacked below target/; nothing is
# installed.
use_sid() { use_debian_suite sid; }
use_trixie() { use_debian_suite trixie; }

use_debian_suite() {
    local tree=$root/target/suites/$1/tree source arch NGX_CONF_FLAGS=()
    fetch_debian_suite "$1"
    source=$tree/usr/share/nginx/src
    [[ -r $source/conf_flags ]] || die "nginx-dev of Debian $1 has no conf_flags"
    # shellcheck source=/dev/null
    . "$source/conf_flags"
    arch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || cc -print-multiarch)
    # use the suite's own headers of OpenSSL, PCRE2 and zlib; its libraries may need a newer libc than the system's
    # linker
    set_option --with-cc-opt "-I$tree/usr/include -I$tree/usr/include/$arch"
    set_option --with-ld-opt "-L$tree/usr/lib/$arch -Wl,--allow-shlib-undefined"
    arguments_from="nginx-dev of Debian $1"
    use_configured "$1" "$source" "${NGX_CONF_FLAGS[@]}"
}

# set_option NAME FLAGS: replaces the flags of the build host in the caller's NGX_CONF_FLAGS
set_option() {
    local argument kept=()
    for argument in "${NGX_CONF_FLAGS[@]}"; do
        if [[ $argument == "$1="* ]]; then
            argument=$(kept_flags "$argument" '-(D|U)' '')
            set -- "$1" "${argument:+${argument#*=} }$2"
        else
            kept+=("$argument")
        fi
    done
    NGX_CONF_FLAGS=("${kept[@]}" "$1=$2")
}

# NGINX with the modules that the tests need, its configured source, and the headers that this source includes
readonly suite_packages=(nginx "${system_test_packages[@]}")
readonly suite_headers=(nginx-dev libssl-dev libpcre2-dev zlib1g-dev)

readonly suite_tools=(patchelf dpkg-dev)

# True if the suite is available: apt reaches it, or it is already unpacked.
has_debian_suite() { on_debian && { [[ -e $root/target/suites/$1/unpacked ]] || update_debian_suite "$1"; }; }

update_debian_suite() {
    local dir=$root/target/suites/$1/apt mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(apt_mirror Debian) || true
    [[ $mirror ]] || { say "apt of this machine uses no mirror of Debian" && return 1; }
    [[ -e $keyring ]] && keyring="[signed-by=$keyring] " || keyring=
    private_apt "$dir"
    printf 'deb %s%s %s main\n' "$keyring" "$mirror" "$1" >"$dir/sources.list"
    # with Error-Mode, an unreachable suite is an error
    APT_CONFIG=$dir/apt.conf apt-get update -q -o APT::Update::Error-Mode=any >"$dir/update.log" 2>&1
}

# apt_mirror LABEL: the mirror of Debian with this label (Debian, Debian-Security) that apt uses on this machine
# shellcheck disable=SC2016 # the format is apt's
apt_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Label: $1" 2>/dev/null |
        head -n 1
}

# private_apt DIR: writes DIR/apt.conf, with which apt uses only DIR and its sources.list, and has no installed package:
# those of this machine are of another suite or architecture.
private_apt() {
    local dir=$1
    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    : >"$dir/status"
    cat >"$dir/apt.conf" <<EOF
Dir::State "$dir";
Dir::State::status "$dir/status";
Dir::State::lists "$dir/lists";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
APT::Sandbox::User "root";
EOF
}

fetch_debian_suite() {
    local dir=$root/target/suites/$1 tree=$root/target/suites/$1/tree list deb
    on_debian || die "the suite $1 of Debian is for a Debian system"
    need_packages "${suite_tools[@]}"
    # update at most once an hour
    [[ ! $(find "$dir/unpacked" -mmin -60 2>/dev/null) ]] || return 0
    suite_apt() { APT_CONFIG=$dir/apt/apt.conf "$@" >>"$dir/apt/fetch.log" 2>&1 </dev/null; }
    if ! update_debian_suite "$1"; then
        [[ -e $dir/unpacked ]] || die "the suite $1 of Debian cannot be reached:" \
            "$(tail -n 5 "$dir/apt/update.log" 2>/dev/null)"
        say "the suite $1 of Debian cannot be reached; going on with what was unpacked before"
        return
    fi
    list=$(APT_CONFIG=$dir/apt/apt.conf apt-get install --print-uris -qq -y --no-install-recommends \
        "${suite_packages[@]}" | cut -d' ' -f2
        APT_CONFIG=$dir/apt/apt.conf apt-get download --print-uris -qq "${suite_headers[@]}" | cut -d' ' -f2)
    if [[ $list == "$(cat "$dir/unpacked" 2>/dev/null)" ]]; then
        touch "$dir/unpacked"
        return
    fi

    say "fetching NGINX of Debian $1"
    : >"$dir/apt/fetch.log"
    rm -rf "$dir/unpacked" "$tree" "$dir/apt/archives"
    mkdir -p "$tree" "$dir/apt/archives/partial"
    suite_apt apt-get install --download-only -q -y --no-install-recommends "${suite_packages[@]}" &&
        (cd "$dir/apt/archives" && suite_apt apt-get download -q "${suite_headers[@]}") || {
        cat "$dir/apt/fetch.log" >&2
        die "apt cannot fetch NGINX of Debian $1"
    }
    for deb in "$dir"/apt/archives/*.deb; do
        dpkg-deb -x "$deb" "$tree" || die "$deb cannot be unpacked"
    done
    run_beside_system "$tree" "$tree/usr/sbin/nginx" \
        || die "NGINX of Debian $1 cannot be made to run beside the system's"
    printf '%s\n' "$list" >"$dir/unpacked"
}

# Makes a program use the dynamic linker and the libraries of a folder instead of the system's.
run_beside_system() {
    local tree=$1 binary=$2 interpreter libraries
    libraries=$(dirname "$(find "$tree" -name libc.so.6 -print -quit)")
    interpreter=$tree$(patchelf --print-interpreter "$binary")
    # on a system with a merged /usr, the interpreter's folder is a link
    [[ -e $interpreter ]] || interpreter=$libraries/${interpreter##*/}
    # an rpath also applies to the libraries of libraries and of modules; a runpath does not
    patchelf --force-rpath --set-interpreter "$interpreter" --set-rpath "$libraries" "$binary"
}

# use_source DIR [ARGUMENT…]: the arguments of configure. Without any, those of the installed NGINX of this name, or
# default arguments.
use_source() {
    local dir=$1 source name version binary arguments=()
    shift
    need_source "$dir"
    # -P: find does not follow a link given as its starting point
    source=$(cd "$dir" && pwd -P)
    name=$(source_name "$source") version=$(source_version "$source")
    version_at_least "$version" "$oldest_nginx" \
        || die "\"$dir\" is NGINX $version; $oldest_nginx is the oldest that is supported"

    arguments_from='the command line'
    if (($#)); then
        arguments=("$@")
    elif binary=$(installed_binary "$name") && [[ $binary ]]; then
        say "$binary is $name: configuring as that one was"
        mapfile -t arguments < <(installed_arguments "$binary")
        arguments_from="\"$binary -V\""
        like_installed=yes
    else
        mapfile -t arguments < <(default_arguments "$source")
        arguments_from=''
    fi
    use_configured "source-$name" "$source" ${arguments[@]+"${arguments[@]}"}
}

default_arguments() {
    known_arguments "$1" --with-compat --with-threads --with-http_ssl_module --with-http_v2_module --with-http_v3_module
}

# known_arguments SOURCE ARGUMENT…: the arguments that the source knows. Tengine has no HTTP/3.
known_arguments() {
    local source=$1 argument
    shift
    for argument; do
        grep -qE "^ *$argument\)" "$source/auto/options" && printf '%s\n' "$argument"
    done
    return 0
}

# tested_arguments SOURCE: all that the tests use and the source knows
tested_arguments() {
    known_arguments "$1" --with-threads --with-file-aio --with-http_{ssl,v2,v3,realip,auth_request}_module \
        --with-http_{addition,gunzip,slice,stub_status,sub}_module --with-stream{,_ssl_module,_realip_module} \
        --with-stream_ssl_preread_module --with-mail{,_ssl_module}
}

# the arguments of configure, after use_configured
configured_with=()

# set if the module is built only for the installed NGINX, and is configured like it
like_installed=''

# use_configured NAME SOURCE ARGUMENT…: configures SOURCE, unless nothing has changed since the last call.
use_configured() {
    local source=$2 dir=$root/target/$1/nginx configure fingerprint
    variant=$1
    shift 2
    # With --with-compat, an NGINX that was configured with other modules loads the result. An NGINX that was
    # configured without --with-compat does not load a module that has it (`ngx_add_module` compares signatures).
    [[ $like_installed || " $* " == *" --with-compat "* ]] || set -- "$@" --with-compat

    configured_with=("$@")
    fingerprint=$(printf '%s\n' "$source" "$@" && find -L "$source/src" "$source/auto" \
        -type f -printf '%p %s %T@\n' | sort | cksum)
    if [[ ! -f $dir/objs/Makefile || ! -f $dir/objs/ngx_auto_config.h ]] ||
        [[ $(cat "$dir/fingerprint" 2>/dev/null) != "$fingerprint" ]]; then
        say "configuring NGINX $(source_version "$source") in ${dir#"$root/"}"
        rm -rf "$dir"
        mkdir -p "$dir/tree"
        # configure writes a Makefile into its working directory, even with --builddir. So it runs in a folder of
        # links.
        find "$source" -mindepth 1 -maxdepth 1 ! -name Makefile ! -name objs -exec ln -s -t "$dir/tree" {} +
        # an unpacked release has ./configure, a checkout auto/configure
        configure=./configure
        [[ -f $dir/tree/configure ]] || configure=auto/configure
        (cd "$dir/tree" && "$configure" "$@" --builddir="$dir/objs") >"$dir/configure.log" 2>&1 </dev/null || {
            cat "$dir/configure.log" >&2
            configure_failed "$dir/configure.log" "$@"
        }
        adapt_for_bindings "$source" "$dir/objs/Makefile"
        printf '%s\n' "$fingerprint" >"$dir/fingerprint"
    fi

    cargo_flags=(--no-default-features)
    export CARGO_TARGET_DIR=$root/target/$variant NGINX_SOURCE_DIR=$dir/tree NGINX_BUILD_DIR=$dir/objs
}

# adapt_for_bindings SOURCE MAKEFILE: nginx-sys needs the member spare1 of ngx_module_t, which Angie calls angie_sign.
# So the headers that nginx-sys and build.rs read get NGINX's name for it. Only they use this Makefile. The position
# and the value of the member stay as in Angie (build/layout.rs).
adapt_for_bindings() {
    [[ ! -f $1/src/core/angie.h ]] || sed -i 's/^CFLAGS *= */&-Dangie_sign=spare1 /' "$2"
}

# The arguments that the last words of configure name, and the source of these arguments.
arguments_from=''
configure_failed() {
    local log=$1 option argument culprit=''
    shift
    [[ $arguments_from ]] || die "NGINX's configure failed"
    option=$(grep -oE -- '--[a-z0-9_-]+' <<<"$(tail -n 15 "$log" | grep -i 'error' || true)" | head -n 1) || true
    for argument; do
        [[ ! $option || ${argument%%=*} != "$option" ]] || culprit=$argument
    done
    die "NGINX's configure failed${culprit:+ because of \"$culprit\"}" \
        "Its arguments came from $arguments_from:" "${@/#/    }" \
        "To build with others, for example without those that this machine has no library for, name them after \"--\":" \
        "    scripts/build --source DIR -- --with-compat …"
}

need_source() {
    [[ -f $1/src/core/nginx.h ]] || die "\"$1\" is not an NGINX source: it has no src/core/nginx.h"
}

# The version of NGINX in a source, or of the NGINX that the source is derived from.
source_version() { sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$1/src/core/nginx.h"; }

# The name of a source, with its version: nginx-1.30.4, freenginx-1.27.2, tengine-3.2.0, openresty-1.27.1.2.
source_name() {
    local header=$1/src/core/nginx.h fork version
    if [[ -f $1/src/core/angie.h ]]; then
        sed -n 's/^#define ANGIE_VERSION *"\(.*\)"/angie-\1/p' "$1/src/core/angie.h"
    elif grep -q '^#define TENGINE_VERSION ' "$header"; then
        sed -n 's/^#define TENGINE_VERSION *"\(.*\)"/tengine-\1/p' "$header"
    else
        # #define NGINX_VER "openresty/" NGINX_VERSION ".2", or NGINX_NAME "/" NGINX_VERSION
        fork=$(sed -n 's,^#define NGINX_NAME *"\(.*\)",\1,p; s,^#define NGINX_VER *"\([^"/]*\)/".*,\1,p' \
            "$header" | head -n 1)
        version=$(source_version "$1")
        version+=$(sed -n 's,^#define NGINX_VER *"[^"]*" *NGINX_VERSION *"\([^"]*\)".*,\1,p' "$header")
        printf '%s-%s\n' "${fork:-nginx}" "$version"
    fi
}

# The same for a binary, from the first line of its -v output: nginx version: openresty/1.27.1.2
binary_name() { "$1" -v 2>&1 | sed -n 's,^[A-Za-z]* version: \([A-Za-z_-]*\)/\([^ ]*\).*,\L\1\E-\2,p' | head -n 1; }

# The installed NGINX of this name; empty if there is none.
installed_binary() {
    local binary
    for binary in nginx openresty tengine freenginx angie \
        /usr/local/nginx/sbin/nginx /usr/local/openresty/nginx/sbin/nginx; do
        binary=$(command -v "$binary") || continue
        if [[ $(binary_name "$binary") == "$1" ]]; then
            printf '%s' "$binary"
            return
        fi
    done
}

# The `configure arguments` of a binary, one per line. Left out are paths that exist only on the machine where it was
# built, and modules that need libraries and do not change what other modules see.
installed_arguments() {
    local argument
    # -r: without configure arguments, print no line instead of an empty one
    "$1" -V 2>&1 | sed -n 's/^configure arguments: *//p' | xargs -r -n1 printf '%s\n' |
        sed -E '/^--add-(dynamic-)?module=/d
                /^--with-(openssl|pcre|zlib)(-opt)?=/d
                /^--with-(zlib-asm|perl|cpu-opt)=/d
                /^--with-libatomic/d
                /^--builddir=/d
                /^--with-(http_(geoip|image_filter|perl|xslt)|stream_geoip|google_perftools)_module/d' |
        while IFS= read -r argument; do
            case $argument in
            --with-cc-opt=*) argument=$(kept_flags "$argument" '-(D|U|I|isystem|include|iquote|idirafter)' \
                '-(m(32|64|x32)|f(pack-struct|(no-)?short-).*)') ;;
            --with-ld-opt=*) argument=$(kept_flags "$argument" '-L' '-Wl,(-rpath|-R).*') ;;
            --with-cc=* | --with-cpp=*) has "${argument#*=}" || continue ;;
            esac
            [[ $argument ]] && printf '%s\n' "$argument"
        done
    return 0
}

# kept_flags --with-…=FLAGS WITH_VALUE ALONE: keeps only the matching flags; prints nothing if no flag matches. Other
# flags of a distribution (-specs=…, -flto, -march=…, -l…, files of its build host) may not work here, and do not
# change what a module sees. Macros, header folders and flags that change the layout of structures are kept.
kept_flags() {
    local option=${1%%=*} flag kept=() takes_next=''
    local words=()
    read -r -a words <<<"${1#*=}"
    for flag in ${words[@]+"${words[@]}"}; do
        if [[ $takes_next ]]; then
            kept+=("$flag") takes_next=''
        elif [[ $flag =~ ^($2)$ ]]; then
            kept+=("$flag") takes_next=yes
        elif [[ $flag =~ ^($2) || $flag =~ ^($3)$ ]]; then
            kept+=("$flag")
        fi
    done
    [[ ! ${kept[*]:-} ]] || printf '%s' "$option=${kept[*]}"
}

# ---- the module ---------------------------------------------------------------------------------------------------

# The folder of the results of scripts/build. Other scripts need not know cargo's folders.
module_dir() { printf '%s' "$root/target/module/$variant"; }
module_path() { printf '%s' "$(module_dir)/$module_file"; }

# The NGINX binary for which the variant's module was built; empty for --source if no such NGINX is installed.
nginx_path() {
    case $variant in
    vendored) printf '%s' "$(module_dir)/nginx" ;;
    system) command -v nginx ;;
    sid | trixie) printf '%s' "$root/target/suites/$variant/tree/usr/sbin/nginx" ;;
    source-*) installed_binary "${variant#source-}" ;;
    esac
}
