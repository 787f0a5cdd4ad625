#!/usr/bin/env bash
# Measures kronod with bench-gen on this machine; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

usage() {
    cat <<'TEXT'
Measures kronod with bench-gen on this machine, in under two minutes

Usage: scripts/bench.sh [OPTIONS] [-- PROCEDURE [OPTIONS OF BENCH-GEN]]

bench-gen plays subscribers and servers, kronod translates between them, and every packet that
comes back is checked. Without options the two are joined by shared memory (memif), which needs
neither root nor huge pages and gives the most. PROCEDURE is one of bench-gen's, with its options;
without it the load is run as it is.

Options:
  --veth          By network interfaces instead, each program in a network namespace of its own:
                  what the kernel's veth pairs and packet sockets give. Needs root
  --flows N       Live flows: UDP, TCP and ICMP [default: 20000]
  --rate RATE     Such as 100kpps or max [default of run and outage: 50kpps, 20kpps with --veth;
                  of others: max, where a search begins]
  --seconds N     How long a run is [default: 20]
  --sessions N    How many sessions kronod has room for [default: 512K]
  --with LINE     Another line of the profile, such as 'popularity: agh-2015'; may be repeated
  --html FILE     A page with tables and plots [default: target/bench/PROCEDURE.html]
  --json FILE     The report for machines [default: target/bench/PROCEDURE.json]
  --help          This page

Commands that bench-gen runs find the command `device`: device restart | kill | start | freeze |
thaw does that to kronod.

Examples:
  scripts/bench.sh --veth --flows 100000 --seconds 60
  scripts/bench.sh -- throughput --sizes 64,1518 --trial 2s
  scripts/bench.sh --sessions 32K --flows 100K -- rfc9693 capacity --clear-command 'device restart'
  scripts/bench.sh -- outage --run 'device restart' --may-forget
  scripts/bench.sh --with 'replay: { file: /tmp/subscribers.pcap, timing: x2 }'

Exit status: 0 if all that arrived was right; 1 if not, or if something did not start.
TEXT
}

misused() { printf 'error: %s; see --help\n' "$1" >&2; exit 2; }

veth='' flows=20000 rate='' seconds=20 sessions=512K html='' json=''
more=()
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage; exit 0 ;;
    --veth) veth=yes; shift; continue ;;
    --) shift; break ;;
    --flows | --rate | --seconds | --sessions | --with | --html | --json)
        [ $# -gt 1 ] || misused "$1 wants a value" ;;
    *) misused "unknown option $1" ;;
    esac
    if [ "$1" = --with ]; then more+=("$2"); else printf -v "${1#--}" %s "$2"; fi
    shift 2
done
[ $# -gt 0 ] || set -- run
name=$1
[ "$name" != rfc9693 ] || name=rfc9693-${2-}
html=${html:-target/bench/$name.html}
json=${json:-target/bench/$name.json}
if [ -z "$rate" ]; then
    case "$1-$veth" in
    run-yes | outage-yes) rate=20kpps ;;
    run- | outage-) rate=50kpps ;;
    *) rate=max ;;
    esac
fi

work=$(mktemp -d)
namespaces=()
stop_kronod() {
    local kronod
    kronod=$(cat "$work/kronod.pid" 2>/dev/null) || return 0
    # One that is frozen hears of its end when it is thawed.
    kill "$kronod" 2>/dev/null && kill -CONT "$kronod" || return 0
    for _ in $(seq 50); do
        kill -0 "$kronod" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$kronod"
}
cleanup() {
    trap - EXIT INT TERM
    stop_kronod
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

# device PROGRAM SIDE NUMBER. Of a memif kronod is the client: it can be restarted, and joins again.
device() {
    case "$veth-$1" in
    yes-kronod) echo "net_af_packet$3,iface=kr-$2,framecnt=4096" ;;
    yes-bench) echo "net_af_packet$3,iface=bench-$2,framecnt=4096" ;;
    -kronod) echo "net_memif$3,role=client,id=0,socket=$work/$2.sock,socket-abstract=no" ;;
    -bench) echo "net_memif$3,role=server,id=0,socket=$work/$2.sock,socket-abstract=no" ;;
    esac
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
      mac: "02:00:00:00:01:01"
      address: 10.0.0.1/24
      routes: [ { prefix: 100.64.0.0/10, via: 10.0.0.254 } ]
    outside:
      port: core
      mac: "02:00:00:00:02:01"
      address: 192.0.2.1/24
      routes: [ { prefix: 0.0.0.0/0, via: 192.0.2.254 } ]
    nat: { pool: [ 198.51.100.0/26 ] }
nat: { sessions: $sessions }
control: { socket: $work/kronod.sock }
metrics: { listen: "127.0.0.1:0" }
TEXT
    cat >"$work/profile.yaml" <<TEXT
eal: { memory: 128M, hugepages: off, lcores: "0@$last", idle: yield }
inside: { device: "$(device bench in 0)", address: 10.0.0.254/24, next_hop: 10.0.0.1 }
outside: { device: "$(device bench out 1)", address: 192.0.2.254/24, next_hop: 192.0.2.1 }
TEXT
    {
        [ ${#more[@]} -eq 0 ] || printf '%s\n' "${more[@]}"
        # A capture has packets, a pace and an end of its own.
        if [[ ${more[*]-} == *replay:* ]]; then return; fi
        line protocols '{ udp: 60, tcp: 35, icmp: 5 }'
        line flows "$flows"
        line rate "$rate"
        line end "{ after: ${seconds}s }"
    } >>"$work/profile.yaml"
}

# line KEY VALUE: a line of the profile, unless --with has said it.
line() {
    local said
    for said in ${more[@]+"${more[@]}"}; do
        if [[ $said == "$1:"* ]]; then return; fi
    done
    echo "$1: $2"
}

# What was lost between an interface and the packet socket on it: neither program can know.
kernel_drops() {
    local side had got
    for side in inside outside; do
        had=$(ip -n "krono-dut-$$" -s -j link show "kr-${side%side}" |
            sed 's/.*"rx":{[^}]*"packets":\([0-9]*\).*/\1/')
        got=$(awk -v side=$side '$1 == side { gsub(",", "", $2); print $2 }' <<<"$stats")
        echo "kernel $side: $((had - got)) of $had packets did not come to kronod"
    done
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

export BENCH_WORK=$work BENCH_PROGRAMS=$programs
export BENCH_NAMESPACE=${veth:+krono-dut-$$}
say "bench-gen $*, kronod by $([ -n "$veth" ] && echo veth || echo memif)"
if [ -n "$veth" ]; then
    scripts/bench/device start
else
    # The server of a memif comes first.
    (
        until [ -S "$work/in.sock" ] && [ -S "$work/out.sock" ]; do sleep 0.05; done
        scripts/bench/device start
    ) &
fi
status=0
# Ctrl-C is bench-gen's to answer.
trap : INT
PATH="$PWD/scripts/bench:$PATH" ${veth:+nsenter --net="/run/netns/krono-bench-$$"} \
    "$programs/bench-gen" "$@" --profile "$work/profile.yaml" --html "$html" --json "$json" || status=$?
say "What kronod says of it"
stats=$("$programs/kronoctl" --socket "$work/kronod.sock" stats) && echo "$stats"
if [ -n "$veth" ] && [ "$name" = run ]; then kernel_drops; fi
echo "The page: $html"
exit $status
