# shellcheck shell=bash disable=SC2034,SC2154
#
# Clean chroots of Debian's suites, for builds and for tests of packages. Sourced after scripts/lib.sh, not run.
#
# Each command in a chroot has namespaces of its own: mounts and processes end with the command.

readonly suites='bookworm|trixie|sid'
readonly chroots=${REQUEST_CPU_CHROOTS:-$root/target/chroots}

# apt_sources SUITE: the mirrors that apt uses on this machine
apt_sources() {
    local mirror security
    mirror=$(apt_mirror Debian) || true
    security=$(apt_mirror Debian-Security) || true
    [[ $mirror ]] || die "apt of this machine uses no mirror of Debian"
    printf 'deb %s %s main\n' "$mirror" "$1"
    # sid gets its updates and fixes at once
    [[ $1 != sid ]] || return 0
    printf 'deb %s %s-updates main\n' "$mirror" "$1"
    [[ ! $security ]] || printf 'deb %s %s-security main\n' "$security" "$1"
}

# make_chroot SUITE DIR VARIANT [ARGUMENT…]: the arguments are for mmdebstrap
make_chroot() {
    local suite=$1 dir=$2 variant=$3 log=$2.log options=()
    shift 3
    ((EUID == 0)) || die 'chroots need root'
    need_packages mmdebstrap iproute2
    # A mirror may be a snapshot. The release file of sid is valid for a week only.
    [[ $suite != sid ]] || options+=(--aptopt='Acquire::Check-Valid-Until "false"')
    say "making a chroot of Debian $suite in ${dir#"$root/"}"
    rm -rf "$dir"
    mkdir -p "$dir"
    apt_sources "$suite" | mmdebstrap --variant="$variant" --aptopt='APT::Install-Recommends "false"' \
        ${options[@]+"${options[@]}"} "$@" "$suite" "$dir" - >"$log" 2>&1 || {
        cat "$log" >&2
        rm -rf "$dir"
        die "the chroot of Debian $suite cannot be made"
    }
    rm -f "$log"
}

# in_chroot DIR NETWORK COMMAND…: runs a command as root. NETWORK is "host", or "none": then it has a loopback device
# of its own, and its servers do not meet those of the machine. All processes end with the command.
in_chroot() {
    local dir=$1 network=$2 options=()
    [[ $network != none ]] || options+=(--net)
    shift 2
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --propagation private --pid --fork --kill-child ${options[@]+"${options[@]}"} bash -ec '
        dir=$1 network=$2
        shift 2
        [[ $network != none ]] || ip link set lo up
        mount -t proc proc "$dir/proc"
        mount --rbind /dev "$dir/dev"
        [[ ! -e /etc/resolv.conf ]] || cp -L --remove-destination /etc/resolv.conf "$dir/etc/resolv.conf"
        exec chroot "$dir" env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
            DEBIAN_FRONTEND=noninteractive "$@"' chroot "$dir" "$network" "$@"
}
