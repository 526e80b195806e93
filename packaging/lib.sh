# shellcheck shell=bash disable=SC2154
#
# What programs for packages and releases share: the version and the archives of the sources. Sourced, not run, after
# scripts/lib.sh.

# begins the names of archives
# shellcheck disable=SC2034 # for those that source this file
readonly source_prefix=ngx-http-request-cpu

project_version() { sed -n '/^\[workspace\.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

# set_cargo_version DIR VERSION: in Cargo.toml, in the table of the workspace only; and in Cargo.lock, for the crates
# without a source, which are those of this repository
set_cargo_version() {
    sed -i '/^\[workspace\.package\]/,/^\[/ s/^version = ".*"/version = "'"$2"'"/' "$1/Cargo.toml"
    VERSION=$2 perl -00 -pi -e 's/^version = ".*"/version = "$ENV{VERSION}"/m if /^\[\[package\]\]/ && !/^source = /m' \
        "$1/Cargo.lock"
}

# True if this is a checkout, and not an unpacked archive.
is_checkout() { [[ -e $root/.git ]] && has git; }

# The time of the last commit; in an unpacked archive, that of the newest entry of Cargo.toml. Files of packages have
# this time, so that equal sources give equal packages.
source_date() {
    if is_checkout; then git -C "$root" log -1 --format=%ct; else stat -c %Y "$root/Cargo.toml"; fi
}

# tar with a fixed order, owner and time
plain_tar() {
    tar --sort=name --owner=0 --group=0 --numeric-owner --format=gnu --mtime="@$(source_date)" --mode=go=rX,u+rw "$@"
}

# source_archive FILE VERSION: writes the source as FILE.tar.gz. In a checkout, these are the files of the last commit.
source_archive() {
    local prefix=$source_prefix-$2
    if is_checkout; then
        git -C "$root" archive --format=tar --prefix="$prefix/" HEAD
    else
        plain_tar -C "$root" --exclude=./target --exclude=./page/node_modules \
            --transform="flags=r;s,^\.,$prefix," -cf - .
    fi | gzip -9 -n >"$1"
}

# vendor_archive FILE: writes the source of each crate in Cargo.lock as FILE.tar.zst. The archive unpacks to "vendor".
vendor_archive() (
    dir=$(mktemp -d "$root/target/vendor-XXXXXX")
    trap 'rm -rf "$dir"' EXIT
    cargo vendor --locked --quiet --manifest-path "$root/Cargo.toml" "$dir/vendor" >/dev/null
    plain_tar -C "$dir" -cf - vendor | zstd -q -9 -T0 >"$1"
)
