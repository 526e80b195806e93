# shellcheck shell=bash disable=SC2154
#
# A container for tools/image-test, made with unshare. Sourced, not run. The caller sets rootfs, user, command,
# environment and work.

container='' # process 1 of the container, by its number outside
unshare=''   # the process that waits for it
data=''      # the folder of the volume

# start_container DATA [FOLDER PATH]: with DATA as the volume, or none; and with FOLDER mounted at PATH.
start_container() {
    data=$1
    if [[ $data ]]; then
        mkdir -p "$data"
        chown "$user" "$data"
    fi
    : >"$work/started"
    # As container engines do, give the pipes to the user: NGINX opens /dev/stdout again.
    rm -f "$work"/{stdout,stderr}.pipe
    mkfifo "$work"/{stdout,stderr}.pipe
    chown "$user" "$work"/{stdout,stderr}.pipe
    cat "$work/stdout.pipe" >"$work/stdout" &
    cat "$work/stderr.pipe" >"$work/stderr" &
    # the shell is process 1 until exec
    unshare --mount --propagation private --pid --net --ipc --uts --fork --kill-child \
        bash -euc '
            rootfs=$1 data=$2 folder=$3 path=$4 user=$5
            shift 5
            ip link set lo up
            mount --bind "$rootfs" "$rootfs"
            mount -t proc proc "$rootfs/proc"
            mount -t tmpfs -o mode=1777 tmp "$rootfs/tmp"
            mount -t tmpfs -o mode=755 dev "$rootfs/dev"
            for name in null zero random urandom; do
                : >"$rootfs/dev/$name"
                mount --bind "/dev/$name" "$rootfs/dev/$name"
            done
            ln -s /proc/self/fd "$rootfs/dev/fd"
            ln -s /proc/self/fd/1 "$rootfs/dev/stdout"
            ln -s /proc/self/fd/2 "$rootfs/dev/stderr"
            [[ ! $data ]] || mount --bind "$data" "$rootfs/var/lib/request-cpu"
            [[ ! $folder ]] || mount --bind -o ro "$folder" "$rootfs$path"
            mount -o remount,bind,ro "$rootfs"
            exec setpriv --no-new-privs chroot --userspec="$user" --groups= "$rootfs" env -i "$@"
        ' container "$rootfs" "$data" "${2:-}" "${3:-}" "$user" "${environment[@]}" "${command[@]}" \
        >"$work/stdout.pipe" 2>"$work/stderr.pipe" </dev/null &
    unshare=$!
    wait_for container_started || true
}

# Process 1 is the only child of unshare. It is ready to be asked when it has become the image's command.
container_started() {
    container=$(tr -d ' ' 2>/dev/null <"/proc/$unshare/task/$unshare/children") || return 0
    [[ ! -e /proc/$unshare ]] || [[ $container && $(cat "/proc/$container/comm" 2>/dev/null) == "${command[0]##*/}" ]]
}

# A process that has ended stays a zombie until it is waited for.
ended() { [[ ! -e /proc/$1 || $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) == [ZX] ]]; }

container_ended() { ended "$unshare"; }

# stop_container SIGNAL: returns the status of the container.
stop_container() {
    local status=0
    [[ $container ]] || return 0
    kill -s "$1" "$container"
    wait_for container_ended || kill -s KILL "$container"
    wait "$unshare" || status=$?
    container=''
    return "$status"
}

# The processes of the container, by their numbers outside.
container_processes() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/ns/pid") == "$(readlink "/proc/$container/ns/pid")" ]]; then
            echo "${process#/proc/}"
        fi
    done
}

# inside OPTION COMMAND…: in namespaces of the container
inside() { nsenter --target "$container" "$@"; }

# As docker exec: as the image's user, in the image's environment.
in_container() {
    inside --mount --pid --net --ipc --uts --root --wd --setuid "${user%:*}" --setgid "${user#*:}" \
        env -i "${environment[@]}" "$@"
}

# wait_for COMMAND…: until it succeeds, for at most 10 s
wait_for() {
    local end=$((SECONDS + 10))
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.01
    done
}
