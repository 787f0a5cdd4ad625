#!/usr/bin/env bash
# Counts what the packet path takes, in instructions per packet, and compares with the counts in
# krono-nat/benches/instructions.txt. Fails if one grew by more than 3 %, unless CHANGELOG.md has
# a line that says why; with --renew it stores the new ones on the same terms.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh

case "${*:-}" in
'' | --renew) ;;
*) fail "usage: scripts/instructions.sh [--renew]" ;;
esac

# The runner and the crate speak a protocol of their own, so they must be of the same version.
need_runner() {
    local version
    version=$(sed -n '/^name = "gungraun"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
    if [ "$(gungraun-runner --version 2>/dev/null)" != "gungraun-runner $version" ]; then
        say "Installing gungraun-runner $version"
        # It only starts valgrind, so it need not be optimised, which takes minutes.
        CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --debug --locked --force \
            gungraun-runner --version "$version" ||
            fail "cannot install gungraun-runner $version, which counts instructions"
    fi
}

need_rust
install_missing gcc=cc valgrind=valgrind python3=python3
need_runner

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
say "Counting instructions"
cargo bench --package krono-nat --bench instructions -- \
    --output-format=json --callgrind-args=--cache-sim=no >"$counts"
python3 scripts/instructions.py "$@" --counts "$counts" \
    --compiler "$(rustc -vV | awk '/^rustc / { name = $0 } /^host: / { print name, $2 }')"
