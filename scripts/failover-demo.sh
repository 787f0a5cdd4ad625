#!/usr/bin/env bash
# Shows what live traffic notices when servers that translate it fail; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

usage() {
    cat <<'TEXT'
Shows what live traffic notices when servers that translate it fail

Usage: scripts/failover-demo.sh [--once] [--nodes N] [--sessions N] [--only EVENT,…] [--without-twins]
                                [--out DIR]

Builds a network of namespaces: subscribers, a BIRD router, nodes with kronod, another BIRD router,
servers. Each node serves one shard and stands by for another. With 10,000 sessions open, downloads
by curl, streams of iperf3, keystrokes, and flows of a hundred packets a second, each event in turn
happens to a node, ends, and is looked at:

  kill      kill -9 of kronod            freeze    kill -STOP of kronod
  link      its link is down             cut       nodes do not hear each other
  drain     another node serves for it   rolling   all nodes restart, one after the other

Says for each how long flows were out, what was lost, and whether that is within the goals: sessions
older than 100 ms survive, no flow is out for 250 ms, files arrive whole; nothing at all is lost by a
drain, and no session by a rolling restart. Writes failover.svg, the timeline, into DIR.

Options:
  --once            Runs by itself in less than ten minutes; else each event waits for Enter
  --nodes N         [default: 3]
  --sessions N      [default: 10000]
  --only EVENT,…    These events only
  --without-twins   The halves of shards do not know each other: what it would be like
  --out DIR         [default: docs; with --only or --without-twins: target/failover]
  --help            This page

Exits with 0 only if all goals were reached. Wants root, and two CPUs with nothing else to do. Leaves
nothing behind but the plot, and target/failover with figures and logs.
TEXT
}

misused() { printf 'error: %s; see --help\n' "$1" >&2; exit 2; }

logs=target/failover out='' step=--step arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage; exit 0 ;;
    --once) step=''; shift; continue ;;
    --without-twins) arguments+=("$1"); out=${out:-$logs}; shift; continue ;;
    --nodes | --sessions | --only | --out) [ $# -gt 1 ] || misused "$1 wants a value" ;;
    *) misused "unknown option $1" ;;
    esac
    case "$1" in
    --out) out=$2 ;;
    --only) arguments+=("$1" "$2"); out=${out:-$logs} ;;
    *) arguments+=("$1" "$2") ;;
    esac
    shift 2
done
out=${out:-docs}

need_rust
install_missing "${BUILD_NEEDS[@]}" "${CLIENT_NEEDS[@]}" bird2=bird nftables=nft
may_be_root || fail "network namespaces need root: run as root, or where sudo asks no password"

say "Building"
nice cargo build --release -p kronod -p krono-tests --bins
mkdir -p "$out" "$logs"
rm -f "$logs"/*

# Everything that it starts ends with it, and so do the namespaces.
say "Running"
status=0
"${root[@]}" "${CARGO_TARGET_DIR:-target}/release/failover" $step ${arguments[@]+"${arguments[@]}"} \
    --figures "$logs/figures.json" --logs "$logs" || status=$?
[ $status -le 1 ] || exit $status
if [ -e "$logs/figures.json" ]; then
    python3 scripts/bench/failover.py "$logs/figures.json" "$out/failover.svg"
    say "In $out/failover.svg: the timeline; in $logs: figures and logs"
fi
exit $status
