#!/usr/bin/env bash
# Measures what bench-gen costs, beside dpdk-testpmd, on this machine and without a NIC; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

usage() {
    cat <<'TEXT'
Measures what bench-gen costs, beside dpdk-testpmd, on this machine and without a NIC

Usage: scripts/bench-gen.sh [--quick] [--rounds N] [--out DIR]

Cost: cycles of the time-stamp counter for a UDP frame of 64 bytes of one of 1M flows, by one
worker on CPU 1. The programs run in turn, and that N times over:
  bench-gen   its self-check over in-process rings: each packet is stamped, sent, received, checked
  testpmd     flowgen over such a ring, which receives and frees what it sends: the one to compare
              with; and flowgen, txonly and rxonly over net_null, for the parts
Rates: how exactly 10 k, 100 k and 1 M packets/s are kept, and how bursty they are.
Memory: what 10M live flows take, less what a thousand take.

Options:
  --quick      A smoke test under half a minute: one round, 1M flows, figures that say little
  --rounds N   So many rounds [default: 5, about two minutes]
  --out DIR    For cost.md and runs.json [default: target/bench-gen]
  --help       This page

Wants root, huge pages of 2 MB, which it reserves and gives back, and two CPUs.

Exit status: 0 if every program ran, nothing was lost and the goals were met: sending and receiving
together at most twice testpmd's flowgen, 64 bytes a flow, rates within 1 %; 1 if not. A smoke test has
no goals.
TEXT
}

misused() { printf 'error: %s; see --help\n' "$1" >&2; exit 2; }

rounds=5 quick='' out=target/bench-gen
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage; exit 0 ;;
    --quick) quick=--quick rounds=1; shift; continue ;;
    --rounds | --out) [ $# -gt 1 ] || misused "$1 wants a value" ;;
    *) misused "unknown option $1" ;;
    esac
    printf -v "${1#--}" %s "$2"
    shift 2
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || misused "--rounds wants a number, not $rounds"

measuring=''
# shellcheck disable=SC2317 # it is called, by the trap
cleanup() {
    trap - EXIT INT TERM
    # It stops its programs before it ends.
    if [ -n "$measuring" ]; then
        kill "$measuring" 2>/dev/null || true
        wait "$measuring" 2>/dev/null || true
    fi
    release_hugepages
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ "$EUID" -eq 0 ] || fail "this needs root, for huge pages and to pin threads"
[ "$(nproc)" -ge 2 ] || fail "this needs two CPUs: one for the worker, one for all else"
need_rust
install_missing "${BUILD_NEEDS[@]}" python3=python3 dpdk-dev=dpdk-testpmd
say "Building"
nice cargo build --release --package bench-gen
hold_hugepages 1024

say "Measuring"
# In the background, so that a signal is heeded at once.
python3 scripts/bench/gen.py --binaries target/release --out "$out" --rounds "$rounds" $quick &
measuring=$!
status=0
wait $measuring || status=$?
measuring=''
exit $status
