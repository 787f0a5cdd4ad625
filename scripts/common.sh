# What the scripts share; sourced, not run.

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# "${root[@]}" COMMAND… runs it as root; scripts ask may_be_root before.
root=()
[ "$EUID" -eq 0 ] || root=(sudo --non-interactive)

may_be_root() { "${root[@]}" true 2>/dev/null; }

# install_missing NEED…: installs the packages whose sign is absent. A NEED is PACKAGE=SIGN; the
# sign is a command, or lib:NAME for a library that pkg-config knows, or file:GLOB.
install_missing() {
    local need sign missing=()
    for need in "$@"; do
        sign=${need#*=}
        present "$sign" || missing+=("${need%%=*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Installing ${missing[*]}"
    command -v apt-get >/dev/null || fail "install these first (no apt-get here): ${missing[*]}"
    may_be_root || fail "run as root, or install these first: ${missing[*]}"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
    # Tests and benches start their own servers; the packaged ones are not wanted.
    for need in coturn=coturn bird2=bird openvswitch-switch-dpdk=openvswitch-switch; do
        case " ${missing[*]} " in *" ${need%%=*} "*) not_wanted "${need#*=}" ;; esac
    done
    for need in "$@"; do
        present "${need#*=}" || fail "${need%%=*} was installed, but ${need#*=} is still missing"
    done
}

not_wanted() { "${root[@]}" systemctl disable --now "$1" >/dev/null 2>&1 || true; }

present() {
    case "$1" in
    lib:*) pkg-config --exists "${1#lib:}" 2>/dev/null ;;
    file:*) compgen -G "${1#file:}" >/dev/null ;;
    *) command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
    esac
}

# What building krono takes; Rust itself is the reader's to install.
BUILD_NEEDS=(gcc=cc pkg-config=pkg-config clang=clang 'libclang-dev=file:/usr/lib/llvm-*/lib/libclang.so*'
    libdpdk-dev=lib:libdpdk)

# What both a demonstration and the tests put around kronod.
CLIENT_NEEDS=(iproute2=ip ethtool=ethtool iperf3=iperf3 curl=curl traceroute=traceroute iputils-ping=ping
    procps=file:/bin/kill python3=python3)

need_rust() {
    PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"
    command -v cargo >/dev/null || fail "cargo is missing; install Rust: https://rustup.rs"
}

NR_HUGEPAGES=/proc/sys/vm/nr_hugepages
MIB_PER_PAGE=2

memory_kib() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" /proc/meminfo; }

# hold_hugepages MIB [HINT]: reserves huge pages unless so many are free. Says in a sentence what is
# missing. Wants root; release_hugepages, for a trap, puts back what was there before.
hugepages_before=''
hold_hugepages() {
    local pages=$(($1 / MIB_PER_PAGE)) free before missing
    [ "$(memory_kib Hugepagesize)" = $((MIB_PER_PAGE * 1024)) ] ||
        fail "huge pages of $MIB_PER_PAGE MB are needed; this machine's default is another size"
    free=$(memory_kib HugePages_Free)
    missing=$((pages - free))
    [ $missing -gt 0 ] || return 0
    [ "$(memory_kib MemAvailable)" -gt $((missing * MIB_PER_PAGE * 1024 + 1048576)) ] ||
        fail "$((missing * MIB_PER_PAGE)) MB for huge pages and 1 GB besides are not free here" \
            "${2-}"
    before=$(cat "$NR_HUGEPAGES")
    hugepages_before=$before
    echo $((before + missing)) >$NR_HUGEPAGES
    free=$(memory_kib HugePages_Free)
    [ "$free" -ge $pages ] ||
        fail "only $free of $pages huge pages could be had: memory is fragmented, try after a boot"
}

release_hugepages() { [ -z "$hugepages_before" ] || echo "$hugepages_before" >"$NR_HUGEPAGES"; }
