#!/usr/bin/env bash
# Installs what is missing, builds krono and runs every test; the namespace tests where it may be
# root, without huge pages and again with them. Can be run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

HUGE_PAGES=384

log=$(mktemp)
restore_hugepages=
cleanup() {
    if [ -n "$restore_hugepages" ]; then
        echo "$restore_hugepages" | "${root[@]}" tee "$NR_HUGEPAGES" >/dev/null
    fi
    rm -f "$log"
}
trap cleanup EXIT

# Runs tests with nextest if it is there. Arguments select packages and binaries.
run_tests() {
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --no-fail-fast "$@" 2>&1
    else
        cargo test --no-fail-fast "$@" 2>&1
    fi | tee -a "$log"
}

# The same, each test binary started as root; in a subshell, so that nothing later is.
run_tests_as_root() (
    if [ "$EUID" -ne 0 ]; then
        host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
        export "CARGO_TARGET_${host}_RUNNER=sudo --non-interactive --preserve-env"
    fi
    run_tests "$@"
)

# Reserves huge pages unless enough are free; what was reserved before is restored at the end.
reserve_hugepages() {
    local free before
    free=$(sed -n 's/^HugePages_Free: *//p' /proc/meminfo)
    [ "${free:-0}" -lt $HUGE_PAGES ] || return 0
    may_be_root && [ -e "$NR_HUGEPAGES" ] || return 1
    before=$(cat "$NR_HUGEPAGES")
    restore_hugepages=$before
    echo $((before + HUGE_PAGES)) | "${root[@]}" tee "$NR_HUGEPAGES" >/dev/null 2>&1 || return 1
    [ "$(sed -n 's/^HugePages_Free: *//p' /proc/meminfo)" -ge $HUGE_PAGES ]
}

count() { sed -nE "s/.* ([0-9]+) $1.*/\1/p" <<<"$2" | awk '{ n += $1 } END { print n + 0 }'; }

need_rust
install_missing "${BUILD_NEEDS[@]}" "${CLIENT_NEEDS[@]}" tcpdump=tcpdump tshark=tshark \
    bind9-dnsutils=dig dnsmasq-base=dnsmasq stun-client=stun coturn=turnserver nftables=nft strace=strace \
    bird2=bird

say "Building"
cargo build --workspace --bins --tests

[ -n "${KRONO_CAPTURES-}" ] || say "KRONO_CAPTURES names no directory of captures: not replaying any"

status=0
export KRONO_HUGEPAGES=off
say "All tests, without huge pages"
run_tests --workspace || status=1
if command -v cargo-nextest >/dev/null; then
    cargo test --doc --workspace 2>&1 | tee -a "$log" || status=1
fi
if [ "$EUID" -ne 0 ]; then
    if may_be_root; then
        say "Namespace tests, as root"
        run_tests_as_root -p krono-tests --test end_to_end --test routers --test announcements ||
            status=1
    else
        say "Namespace tests skipped: neither root nor sudo without a password"
    fi
fi
if may_be_root && reserve_hugepages; then
    say "Namespace tests, with huge pages"
    KRONO_HUGEPAGES=required run_tests_as_root -p krono-tests --test end_to_end || status=1
else
    say "Tests with huge pages skipped: cannot reserve $HUGE_PAGES of them"
fi

scripts/instructions.sh || status=1

# Lines at the margin: a failed test prints its own, indented.
summary=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^( +Summary|test result:)' || true)
printf '\n%s passed, %s failed\n' "$(count passed "$summary")" "$(count failed "$summary")"
exit $status
