# Shell functions shared by scripts/ and tests/boot/: sourced, not run.
#   . "$(dirname "$0")/../scripts/lib.sh"
#
# Debian 12 or later is assumed for package names. Everything here works as root on a fresh installation, and
# as a user when sudo asks no password.

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo -n "$@"
    else
        die "need root for: $*"
    fi
}

# apt-get, quiet unless it fails.
apt_quiet() {
    _apt_log=$(mktemp)
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$_apt_log" 2>&1; then
        cat "$_apt_log" >&2
        rm -f "$_apt_log"
        return 1
    fi
    rm -f "$_apt_log"
}

# Refresh the package lists, once per process tree. A mirror in the middle of its own update makes this fail in
# part, with the rest usable: what was wanted of the lists decides.
apt_update() {
    [ -z "${CALQUE_APT_UPDATED:-}" ] || return 0
    apt_quiet update -o Acquire::Retries=3 || echo "some package lists could not be refreshed" >&2
    export CALQUE_APT_UPDATED=1
}

package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages PACKAGE...: install those that are missing.
need_packages() {
    _missing=
    for _package in "$@"; do
        package_installed "$_package" || _missing="$_missing $_package"
    done
    [ -n "$_missing" ] || return 0
    echo "installing:$_missing"
    apt_update || return 1
    # shellcheck disable=SC2086 # a list
    apt_quiet install --no-install-recommends $_missing
}

# add_architecture PACKAGE[:ARCH]: make packages of that architecture known, where it is not the machine's own.
add_architecture() {
    case $1 in *:*) ;; *) return 0 ;; esac
    { dpkg --print-architecture; dpkg --print-foreign-architectures; } | grep -qx "${1##*:}" && return 0
    as_root dpkg --add-architecture "${1##*:}" || return 1
    unset CALQUE_APT_UPDATED # the lists of that architecture are not there yet
}

# download_deb PACKAGE[:ARCH]: print the name of that package's .deb, downloaded into guests/debs unless it is there.
download_deb() {
    _package=$1
    _cache="$(calque_root)/guests/debs/$(echo "$_package" | tr : _)"
    mkdir -p "$_cache" || return 1
    if ! ls "$_cache"/*.deb >/dev/null 2>&1; then
        add_architecture "$_package" >&2 || return 1
        # Lists may be old: try with them first, which costs nothing when they are not.
        (cd "$_cache" && apt-get -q download "$_package") >/dev/null 2>&1 ||
            { apt_update >&2 && (cd "$_cache" && apt-get -q download "$_package") >/dev/null; } ||
            return 1
    fi
    ls "$_cache"/*.deb
}

# fetch_deb PACKAGE[:ARCH] DIR: unpack a package's files under DIR without installing it. The .deb is kept in
# guests/debs, and an unpacked DIR is not unpacked again.
fetch_deb() {
    _package=$1 _dir=$2
    _stamp="$_dir/.unpacked-$(echo "$_package" | tr : _)"
    [ ! -e "$_stamp" ] || return 0
    _deb=$(download_deb "$_package") || return 1
    mkdir -p "$_dir" || return 1
    dpkg-deb -x "$_deb" "$_dir" && touch "$_stamp"
}

# The package a meta package such as linux-image-amd64 stands for: its first dependency. With :ARCH kept.
meta_package_target() {
    _arch=
    case $1 in *:*) _arch=":${1##*:}" ;; esac
    add_architecture "$1" >&2 || return 1
    _target=$(first_dependency "$1")
    if [ -z "$_target" ]; then # no lists yet
        apt_update >&2 || return 1
        _target=$(first_dependency "$1")
    fi
    [ -n "$_target" ] && echo "${_target%%:*}$_arch"
}

first_dependency() {
    apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Depends: \([^ ,]*\).*/\1/p' | head -n 1
}

# The repository's top directory, from wherever this was sourced.
calque_root() {
    if [ -n "${CALQUE_ROOT:-}" ]; then
        echo "$CALQUE_ROOT"
    else
        (cd "$(dirname "$0")" && while [ ! -e scripts/lib.sh ] && [ "$PWD" != / ]; do cd ..; done && pwd)
    fi
}
