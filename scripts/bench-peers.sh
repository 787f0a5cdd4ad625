#!/usr/bin/env bash
# Measures krono beside its peers, on this machine and without a NIC; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

GROUPS_ALL=established,new,scale,floods,overhead,twin

usage() {
    cat <<'TEXT'
Measures krono beside its peers, on this machine and without a NIC

Usage: scripts/bench-peers.sh [--quick] [--rounds N] [--only GROUP,…] [--out DIR]

Programs, each with one worker on CPU 1 and everything else on CPU 0:
  testpmd    DPDK's own, swaps MAC addresses: what there is without a NAT, the bound
  krono      kronod of this tree
  OVS-DPDK   Debian's Open vSwitch with conntrack and source NAT: what people would use instead

They run in turn, and that N times over, since neighbours on a shared machine change all figures
from minute to minute: compare medians of ratios, not figures of different days.

Options:
  --quick         A smoke test under a minute: one round of a few workloads, short segments
  --rounds N      So many rounds [default: 5, about 20 minutes]
  --only GROUPS   Some of established,new,scale,floods,overhead,twin [default: all]
  --out DIR       For peers.md, peers.svg and runs.json [default: target/bench-peers]
  --help          This page

Groups:
  established  UDP with 1k, 64k, 1M flows and 1M flows by Zipf's law; both ways; TCP; IMIX
  new          1M new sessions into an empty table; from load 0.8 on; 1M new ones a second
  scale        1M and 16M live flows: speed, bytes of memory a session, time to start; takes 6 GB
  floods       established packets forwarded while half of what arrives is SYNs, malformed, chosen
               to collide in the flow table's hash, or for public ports that nobody has
  overhead     without firewall rules and with 100
  twin         with a twin, a kronod on CPU 0, and without: 64k and 1M flows, 500k new sessions a
               second; and how long a twin of 1M sessions takes that starts under full load

A preloaded library (scripts/bench/replay.c) takes the place of DPDK's net_null devices. It gives
packets from memory, as fast as they are taken, and counts what is sent: in the same way for every
program. Before anything is measured, short runs verify every checksum on both sides of krono.
Wants root, huge pages of 2 MB, which it reserves and gives back, and two CPUs or more.

Exit status: 0 if every run went as it should: programs started, krono dropped nothing that it
should forward and accounts for every frame as the device does; 1 if not.
TEXT
}

rounds=5 quick='' only=$GROUPS_ALL out=target/bench-peers
parse() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --help | -h) usage; exit 0 ;;
        --quick) quick=--quick rounds=1; shift; continue ;;
        --rounds | --only | --out) [ $# -gt 1 ] || misused "$1 wants a value" ;;
        *) misused "unknown option $1" ;;
        esac
        case "$1" in
        --rounds) rounds=$2 ;;
        --only) only=$2 ;;
        --out) out=$2 ;;
        esac
        shift 2
    done
    [[ $rounds =~ ^[1-9][0-9]*$ ]] || misused "--rounds wants a number, not $rounds"
    local group
    for group in ${only//,/ }; do
        [[ ,$GROUPS_ALL, == *,$group,* ]] || misused "--only: there is no group $group"
    done
}

misused() { printf 'error: %s; see --help\n' "$1" >&2; exit 2; }

wants() { [[ ,$only, == *,$1,* ]]; }

work=''
peers=''
# shellcheck disable=SC2317 # it is called, by the trap
cleanup() {
    trap - EXIT INT TERM
    # It stops its programs before it ends.
    if [ -n "$peers" ]; then
        kill "$peers" 2>/dev/null || true
        wait "$peers" 2>/dev/null || true
    fi
    release_hugepages
    [ -z "$work" ] || rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build() {
    say "Building"
    nice cargo build --release --package kronod --bins
    local flags
    read -ra flags <<<"$(pkg-config --cflags libdpdk)"
    cc -O3 -march=native -Wall -Wextra -shared -fPIC "${flags[@]}" -o "$work/libreplay.so" \
        scripts/bench/replay.c scripts/bench/workload.c scripts/bench/cable.c \
        -lrte_ethdev -lrte_mbuf -lrte_mempool -lrte_eal -lm
    cc -O3 -march=native -Wall -Wextra -o "$work/workload_test" \
        scripts/bench/workload_test.c scripts/bench/workload.c -lm
    "$work/workload_test" || fail "the packets of the bench are not what they should be"
}

parse "$@"
[ "$EUID" -eq 0 ] || fail "this needs root, for huge pages and to pin threads"
[ "$(uname -m)" = x86_64 ] || fail "the replay device is for x86_64"
[ "$(nproc)" -ge 2 ] || fail "this needs two CPUs: one for the worker, one for all else"
need_rust
install_missing "${BUILD_NEEDS[@]}" python3=python3 dpdk-dev=dpdk-testpmd \
    openvswitch-switch-dpdk=file:/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk

work=$(mktemp -d)
build
megabytes=1800
if wants scale && [ -z "$quick" ]; then megabytes=4800; fi
hold_hugepages $megabytes \
    "$(if wants scale; then echo '(without the group scale it takes less: --only)'; fi)"

say "Measuring"
# In the background, so that a signal is heeded at once.
python3 scripts/bench/peers.py --preload "$work/libreplay.so" --binaries target/release \
    --out "$out" --rounds "$rounds" --only "$only" $quick &
peers=$!
status=0
wait $peers || status=$?
peers=''
exit $status
