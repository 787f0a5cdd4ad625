#!/usr/bin/env bash
# Measures kronod with bench-gen on this machine; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

usage() {
    cat <<'TEXT'
Measures kronod with bench-gen on this machine, in under two minutes

Usage: scripts/bench.sh [--veth] [--flows N] [--rate RATE] [--seconds N] [--html FILE] [--json FILE]

bench-gen plays subscribers and servers, kronod translates between them, and every packet that
comes back is checked. Without options the two are joined by shared memory (memif), which needs
neither root nor huge pages and gives the most.

Options:
  --veth          By network interfaces instead, each program in a network namespace of its own:
                  what the kernel's veth pairs and packet sockets give. Needs root
  --flows N       Live flows: UDP, TCP and ICMP [default: 20000]
  --rate RATE     Such as 100kpps or max [default: 50kpps; 20kpps with --veth]
  --seconds N     How long [default: 20]
  --html FILE     A page with tables and plots [default: target/bench/run.html]
  --json FILE     The report for machines [default: target/bench/run.json]
  --help          This page

Exit status: 0 if all that arrived was right; 1 if not, or if something did not start.
TEXT
}

misused() { printf 'error: %s; see --help\n' "$1" >&2; exit 2; }

veth='' flows=20000 rate='' seconds=20 html=target/bench/run.html json=target/bench/run.json
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage; exit 0 ;;
    --veth) veth=yes; shift; continue ;;
    --flows | --rate | --seconds | --html | --json) [ $# -gt 1 ] || misused "$1 wants a value" ;;
    *) misused "unknown option $1" ;;
    esac
    printf -v "${1#--}" %s "$2"
    shift 2
done
[ -n "$rate" ] || rate=$([ -n "$veth" ] && echo 20kpps || echo 50kpps)

work=$(mktemp -d)
kronod=''
namespaces=()
cleanup() {
    trap - EXIT INT TERM
    [ -z "$kronod" ] || kill "$kronod" 2>/dev/null || true
    wait 2>/dev/null || true
    local namespace
    for namespace in ${namespaces[@]+"${namespaces[@]}"}; do ip netns delete "$namespace" || true; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Two namespaces with a veth pair for each side between them: kronod's ends have no addresses.
lay_veth() {
    [ "$EUID" -eq 0 ] || fail "--veth needs root, for namespaces and packet sockets"
    install_missing iproute2=ip ethtool=ethtool
    local side
    for side in dut bench; do
        ip netns add "krono-$side-$$"
        namespaces+=("krono-$side-$$")
    done
    for side in in out; do
        ip link add "kr-$side" netns "krono-dut-$$" type veth peer name "bench-$side" \
            netns "krono-bench-$$"
    done
    local namespace interface
    for namespace in "${namespaces[@]}"; do
        for interface in $(ip -n "$namespace" -o link show type veth | sed 's/^[0-9]*: \([^@:]*\).*/\1/'); do
            ip netns exec "$namespace" sysctl -qw "net.ipv6.conf.$interface.disable_ipv6=1"
            ip netns exec "$namespace" ethtool -K "$interface" tx off >/dev/null
            ip -n "$namespace" link set "$interface" up
        done
    done
}

# device PROGRAM SIDE NUMBER
device() {
    case "$veth-$1" in
    yes-kronod) echo "net_af_packet$3,iface=kr-$2" ;;
    yes-bench) echo "net_af_packet$3,iface=bench-$2" ;;
    -kronod) echo "net_memif$3,role=server,id=0,socket=$work/$2.sock,socket-abstract=no" ;;
    -bench) echo "net_memif$3,role=client,id=0,socket=$work/$2.sock,socket-abstract=no" ;;
    esac
}

# in_namespace NAME COMMAND…: there, if there are namespaces.
in_namespace() {
    if [ -n "$veth" ]; then exec nsenter --net="/run/netns/krono-$1-$$" "${@:2}"; fi
    exec "${@:2}"
}

configure() {
    local last=$(($(nproc) - 1))
    cat >"$work/kronod.yaml" <<TEXT
eal: { memory: 128M, hugepages: off, lcores: "0@0", idle: yield }
ports:
  - { name: access, device: "$(device kronod in 0)" }
  - { name: core, device: "$(device kronod out 1)" }
shards:
  - id: 0
    lcore: 0
    inside:
      port: access
      address: 10.0.0.1/24
      routes: [ { prefix: 100.64.0.0/10, via: 10.0.0.254 } ]
    outside:
      port: core
      address: 192.0.2.1/24
      routes: [ { prefix: 0.0.0.0/0, via: 192.0.2.254 } ]
    nat: { pool: [ 198.51.100.0/26 ] }
nat: { sessions: 512K }
control: { socket: $work/kronod.sock }
metrics: { listen: "127.0.0.1:0" }
TEXT
    cat >"$work/profile.yaml" <<TEXT
eal: { memory: 128M, hugepages: off, lcores: "0@$last", idle: yield }
inside: { device: "$(device bench in 0)", address: 10.0.0.254/24, next_hop: 10.0.0.1 }
outside: { device: "$(device bench out 1)", address: 192.0.2.254/24, next_hop: 192.0.2.1 }
protocols: { udp: 60, tcp: 35, icmp: 5 }
flows: $flows
rate: $rate
end: { after: ${seconds}s }
TEXT
}

need_rust
install_missing "${BUILD_NEEDS[@]}"
say "Building"
cargo build --release --quiet --package kronod --package bench-gen
programs=$PWD/target/release
mkdir -p "$(dirname "$html")" "$(dirname "$json")"
[ -z "$veth" ] || lay_veth
configure
[ "$(nproc)" -gt 1 ] || say "One CPU for both: they take turns, and the figures are lower for it"

say "$flows flows at $rate for $seconds s, $([ -n "$veth" ] && echo by veth || echo by memif)"
(in_namespace dut "$programs/kronod" --config "$work/kronod.yaml") >"$work/kronod.log" 2>&1 &
kronod=$!
for _ in $(seq 300); do
    if grep -q 'kronod ready' "$work/kronod.log"; then break; fi
    kill -0 "$kronod" 2>/dev/null || { cat "$work/kronod.log" >&2; fail "kronod did not start"; }
    sleep 0.1
done
status=0
(in_namespace bench "$programs/bench-gen" run --profile "$work/profile.yaml" \
    --html "$html" --json "$json") || status=$?
say "What kronod says of it"
"$programs/kronoctl" --socket "$work/kronod.sock" stats
echo "The page: $html"
exit $status
