#!/usr/bin/env bash
# Shows krono at work: a subscriber and an Internet, each a network namespace, and kronod between
# them on virtual ports. Fetches, pings and traces through the NAT, then shows live figures until
# Ctrl-C; with --once it ends by itself. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

once=
case "${1-}" in
'') ;;
--once) once=yes ;;
*) echo "usage: scripts/run.sh [--once]" >&2; exit 2 ;;
esac

SUBSCRIBER=10.0.0.10
INSIDE=10.0.0.1
OUTSIDE=192.0.2.1
GATEWAY=192.0.2.254
POOL=198.51.100.0/28
SERVER=203.0.113.1

work=
namespaces=()
pids=()
cleanup() {
    trap - EXIT INT TERM
    local pid namespace
    # kronod is the last one started and is given the time to stop by itself.
    for pid in ${pids[@]+"${pids[@]}"}; do "${root[@]}" kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for namespace in ${namespaces[@]+"${namespaces[@]}"}; do
        "${root[@]}" ip netns delete "$namespace" 2>/dev/null || true
    done
    [ -z "$work" ] || "${root[@]}" rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# in_namespace NAME COMMAND…
in_namespace() { "${root[@]}" nsenter --net="/run/netns/krono-$1-$$" "${@:2}"; }

# start NAME LOG COMMAND…: in the background, in a namespace.
start() {
    # Not by way of in_namespace: $! is to be the program and not a shell around it.
    "${root[@]}" nsenter --net="/run/netns/krono-$1-$$" "${@:3}" >"$work/$2" 2>&1 &
    pids+=($!)
}

# wait_for TEXT LOG
wait_for() {
    local tries=0
    until grep -q "$1" "$work/$2"; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || ! kill -0 "${pids[-1]}" 2>/dev/null; then
            cat "$work/$2" >&2
            fail "'$1' did not appear in 30 s"
        fi
        sleep 0.1
    done
}

build_network() {
    local name
    for name in sub box net; do
        "${root[@]}" ip netns add "krono-$name-$$"
        namespaces+=("krono-$name-$$")
        in_namespace $name ip link set lo up
    done
    in_namespace box ip link add kr-in type veth peer name sub0 netns "krono-sub-$$"
    in_namespace box ip link add kr-out type veth peer name net0 netns "krono-net-$$"
    # krono's ends have no addresses: the kernel stays out of the way.
    local place
    for place in "box kr-in" "box kr-out" "sub sub0" "net net0"; do
        set -- $place
        in_namespace "$1" sh -c "echo 1 > /proc/sys/net/ipv6/conf/$2/disable_ipv6"
        # Or frames would cross the veth pair with partial checksums.
        in_namespace "$1" ethtool -K "$2" tx off >/dev/null
        in_namespace "$1" ip link set "$2" up
    done
    in_namespace sub ip address add $SUBSCRIBER/24 dev sub0
    in_namespace sub ip route add default via $INSIDE
    in_namespace net ip address add $GATEWAY/24 dev net0
    in_namespace net ip address add $SERVER/32 dev lo
    in_namespace net ip route add $POOL via $OUTSIDE
}

write_config() {
    cat >"$work/kronod.yaml" <<YAML
eal: { memory: 256M, hugepages: auto, lcores: "0@0", idle: yield }
ports:
  - { name: access, device: "net_af_packet0,iface=kr-in" }
  - { name: core, device: "net_af_packet1,iface=kr-out" }
shards:
  - id: 0
    lcore: 0
    inside: { port: access, address: $INSIDE/24 }
    outside:
      port: core
      address: $OUTSIDE/24
      routes: [ { prefix: 0.0.0.0/0, via: $GATEWAY } ]
    nat: { pool: [ $POOL ] }
nat: { sessions: 64K }
control: { socket: $work/kronod.sock }
YAML
}

kronoctl() { "${root[@]}" "$PWD/target/release/kronoctl" --socket "$work/kronod.sock" "$@"; }

need_rust
install_missing "${BUILD_NEEDS[@]}" "${CLIENT_NEEDS[@]}"
may_be_root || fail "network namespaces need root: run as root, or where sudo asks no password"

say "Building"
cargo build --release -p kronod

say "Building a network: subscriber $SUBSCRIBER - kronod - server $SERVER"
work=$(mktemp -d)
mkdir "$work/www"
head -c 50M /dev/urandom >"$work/www/file"
build_network
start net web.log python3 -u -m http.server --bind $SERVER --directory "$work/www" 80
wait_for "Serving HTTP" web.log
start net iperf3.log iperf3 --server --forceflush --bind $SERVER
wait_for "listening" iperf3.log
write_config
cat "$work/kronod.yaml"
start box kronod.log "$PWD/target/release/kronod" --config "$work/kronod.yaml"
wait_for "kronod ready" kronod.log
cat "$work/kronod.log"

say "ping $SERVER"
in_namespace sub ping -n -c 4 -i 0.2 $SERVER

say "traceroute $SERVER: the first hop is kronod"
in_namespace sub traceroute -n --queries=1 --max-hops=5 $SERVER

say "curl http://$SERVER/file"
in_namespace sub curl --fail --silent --show-error --output "$work/fetched" \
    --write-out '%{size_download} bytes in %{time_total} s\n' "http://$SERVER/file"
cmp "$work/www/file" "$work/fetched"
echo "it is the file that was sent; the server saw $(awk '/GET/ { print $1 }' "$work/web.log")"

say "iperf3 through the NAT"
in_namespace sub iperf3 --client $SERVER --time 3

say "Live sessions"
kronoctl sessions
say "Figures"
kronoctl stats

if [ -z "$once" ]; then
    say "kronod goes on, with a ping through it; Ctrl-C ends it"
    start sub ping.log ping -n -i 0.5 $SERVER
    while sleep 5; do
        say "$(date +%T)"
        kronoctl sessions
        kronoctl status
    done
fi
say "Done"
