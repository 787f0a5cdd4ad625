#!/usr/bin/env bash
# Measures what State-Compute Replication is made of, and draws what follows; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

usage() {
    cat <<'TEXT'
Measures what the throughput of State-Compute Replication is made of, and draws what follows

Usage: scripts/scr-figures.sh [--quick] [--out DIR]

For each program, on a trace of one flow and one by Zipf's law, medians of five interleaved runs on
two CPUs: what a packet costs without a program, what its own step and a record of another cost, the
lock, what only one core can be in, and the sequencer's lcore. From these a model gives packets a
second for 1 to 14 cores: sharded, sharded and evened out as by RSS++, locked, replicated. The points
that two CPUs can show are measured and marked.

Writes scr-<program>.svg and scr-model.md into DIR.

Options:
  --quick    A smoke test: figures that say nothing
  --out DIR  [default: docs; with --quick: target/scr]
  --help     This page

Wants root, huge pages of 2 MB, which it reserves and gives back, and two CPUs with nothing else to
do. Takes some two minutes and the time to build.
TEXT
}

misused() { printf 'error: %s; see --help\n' "$1" >&2; exit 2; }

quick='' out=''
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage; exit 0 ;;
    --quick) quick=--quick; shift; continue ;;
    --out) [ $# -gt 1 ] || misused "$1 wants a value"; out=$2; shift 2 ;;
    *) misused "unknown option $1" ;;
    esac
done
[ -n "$out" ] || if [ -n "$quick" ]; then out=target/scr; else out=docs; fi

trap release_hugepages EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ "$EUID" -eq 0 ] || fail "this needs root, for huge pages and to pin threads"
[ "$(nproc)" -ge 2 ] || fail "this needs two CPUs: one for a sequencer, one for a core"
need_rust
install_missing "${BUILD_NEEDS[@]}" python3=python3
say "Building"
nice cargo bench --package krono-io --bench scr --no-run
hold_hugepages 128
mkdir -p "$out" target/scr

say "Measuring"
# The path from the workspace's root, since cargo runs a bench in its crate.
cargo bench --quiet --package krono-io --bench scr -- model --out "$PWD/target/scr/figures.json" $quick
python3 scripts/bench/scr.py target/scr/figures.json "$out"
say "In $out: scr-model.md, scr-*.svg"
