#!/usr/bin/env python3
"""Runs dpdk-testpmd, kronod and OVS-DPDK in turn over the same workloads; started by
scripts/bench-peers.sh, which has what they need."""
import argparse
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError

import report
from measure import Control, Failed, between, measure, start, summary, wait_until
from programs import POOL, Kronod, KronodPair, LateTwin, Ovs, Place, Testpmd

K, M = 1 << 10, 1 << 20
MILLION = 1_000_000
GROUPS = ["established", "new", "scale", "floods", "overhead", "twin"]


@dataclass
class Case:
    """A workload, who runs it and what is looked at."""

    group: str
    name: str
    title: str
    port0: str
    port1: str = "sink"
    programs: tuple = (Testpmd, Kronod)
    unit: str = "Mpps"
    metric: str = "tx_mpps"   # of a segment
    fill_passes: int = 0      # instead of segments: how fast the last of so many passes was
    warm_seconds: float = 0.0  # before the first segment, until what goes on is steady
    memory: bool = False      # look at memory before and after the sessions are there
    flows: int = 0
    frame: str = "64"         # bytes, as they are on the wire
    kronod: dict = field(default_factory=dict)
    may_drop: bool = False
    quick: bool = False
    without: str = ""         # the case to compare with, which lacks something
    apart: str = ""           # the table that it is in, if that is not its group's
    settled: bool = False     # what the first passes have begun has come to rest before it is measured
    must_be_right: bool = False  # every checksum that is sent is verified

    @property
    def section(self):
        return self.apart or self.group


def udp(flows, more=""):
    return f"flows={flows},kind=udp{more}"


def established():
    two_way = (Testpmd, Kronod, Ovs)
    group = "established"
    return [
        Case(group, "udp-1k", "UDP, 1k flows", udp(K), flows=K),
        Case(group, "udp-64k", "UDP, 64k flows", udp(64 * K), flows=64 * K, quick=True),
        Case(group, "udp-1m", "UDP, 1M flows", udp(M), flows=M),
        Case(group, "zipf-1m", "UDP, 1M flows by Zipf's law", udp(M, f",zipf=1.0,packets={2 * M}"),
             flows=M),
        Case(group, "udp-64k-two-way", "UDP, 64k flows, both ways", udp(64 * K), "reflect",
             programs=two_way, flows=64 * K, quick=True),
        Case(group, "udp-1m-shared", "UDP, 1M flows, 16 of a mapping", udp(M, ",shared=16"),
             flows=M),
        Case(group, "tcp-64k", "TCP, 64k connections", f"flows={64 * K},kind=tcp", "answer",
             flows=64 * K),
        Case(group, "imix-64k", "UDP, 64k flows, IMIX", f"flows={64 * K},kind=imix",
             flows=64 * K, frame="7:4:1 of 64, 594, 1518"),
    ]


def new():
    group, unit = "new", "M sessions/s"
    table = {"sessions": M}
    short = {"sessions": 4 * MILLION, "pool": "203.0.113.0/25",
             "timeouts": {"udp": "2s", "port_hold": "0s"}}
    return [
        Case(group, "new-empty", "1M new UDP sessions, empty table of 1M", udp(M), unit=unit,
             programs=(Kronod, Ovs), fill_passes=1, flows=M, kronod=table, quick=True),
        Case(group, "new-0.8", "from load 0.8 to 1, table of 1M", udp(M, f",fill={M * 8 // 10}"),
             unit=unit, programs=(Kronod,), fill_passes=2, flows=M, kronod=table),
        Case(group, "churn-0", "64k flows, none new (udp 2s, port_hold 0s)", udp(64 * K),
             programs=(Kronod,), flows=64 * K, apart="churn", metric="established_mpps",
             warm_seconds=4.0, kronod=short),
        Case(group, "churn-1m", "64k flows and 1M new ones/s (udp 2s, port_hold 0s)",
             udp(64 * K, f",churn_rate={MILLION}"), programs=(Kronod,), flows=64 * K,
             without="churn-0", apart="churn", metric="established_mpps", warm_seconds=4.0,
             kronod=short),
    ]


def scale():
    # 16M sessions are 0.85 of it.
    table = {"sessions": 16 * M * 100 // 85, "pool": "198.19.0.0/23"}
    return [Case("scale", name, f"UDP, {title} flows, table of 19.7M", udp(flows), flows=flows,
                 kronod=table, memory=True, without="scale-1m" if flows > M else "")
            for name, title, flows in (("scale-1m", "1M", M), ("scale-16m", "16M", 16 * M))]


def floods():
    def case(name, title, port0_more="", port1="sink", **more):
        return Case("floods", name, title, udp(64 * K, port0_more), port1, flows=64 * K,
                    metric="established_mpps", warm_seconds=2.0, **more)
    flood = {"without": "flood-none", "may_drop": True}
    return [
        case("flood-none", "64k flows, no flood", quick=True),
        case("flood-syn", "half of it new SYNs", ",flood=syn", quick=True, **flood),
        case("flood-malformed", "half of it malformed", ",flood=malformed", **flood),
        case("flood-collide", "half of it flows chosen to collide", ",flood=collide", **flood),
        case("flood-unknown", "as much from outside to unknown ports",
             port1=f"flood=unknown,pool={POOL}", **flood),
    ]


def overhead():
    return [Case("overhead", f"firewall-{rules}", title, udp(64 * K), programs=(Kronod,),
                 flows=64 * K, kronod={"rules": rules}, without="firewall-0" if rules else "")
            for rules, title in ((0, "64k flows, no firewall rules"),
                                 (100, "64k flows, 100 firewall rules"))]


def twin():
    """Each with a twin on another CPU, and without one."""
    short = {"sessions": 2 * MILLION, "pool": "203.0.113.0/25",
             "timeouts": {"udp": "2s", "port_hold": "0s"}}
    churn = {"metric": "tx_mpps", "warm_seconds": 4.0, "kronod": short, "flows": 64 * K}
    rate = udp(64 * K, f",churn_rate={MILLION // 2}")
    def pair(name, title, port0, **more):
        more["settled"] = True
        yield Case("twin", f"{name}-alone", f"{title}, no twin", port0, programs=(Kronod,), **more)
        yield Case("twin", f"{name}-twin", f"{title}, with a twin", port0,
                   programs=(KronodPair,), without=f"{name}-alone", **more)
    return [
        *pair("twin-64k", "64k flows", udp(64 * K), flows=64 * K, quick=True),
        *pair("twin-1m", "1M flows", udp(M), flows=M),
        *pair("twin-500k", "64k flows and 500k new ones/s (udp 2s)", rate, **churn),
        Case("twin", "twin-catch-up", "a twin of 1M sessions starts", udp(M),
             programs=(LateTwin,), unit="s", flows=M, apart="catch-up"),
    ]


def checks():
    """Not for speed: that frames are right on both sides of krono, and all accounted for."""
    def case(name, port0, port1="sink,verify"):
        return Case("check", name, "all checksums verified", port0, port1, programs=(Kronod,),
                    flows=4 * K, must_be_right=True, quick=True)
    return [case("check-udp", udp(4 * K, ",churn=64,verify"), "reflect,verify"),
            case("check-tcp", f"flows={4 * K},kind=tcp,verify", "answer,verify"),
            case("check-imix", f"flows={4 * K},kind=imix")]


def run(case, program_class, place, pace):
    """One program on one workload; all that was seen."""
    with program_class(place, case) as program:
        result = {"case": case.name, "program": program.name}
        before = program.memory() if case.memory and program_class is Kronod else None
        if before:
            measure(place.control, only_passes=1)
            result["memory"] = {"before": before, "after": program.memory()}
        if program_class is LateTwin:
            return result | catch_up(place, program)
        if case.settled:
            measure(place.control, only_passes=2)
            program.settle()
        pace = {"warm_seconds": case.warm_seconds} | pace
        seen = measure(place.control, only_passes=case.fill_passes, **pace)
        result["problems"] = program.problems(seen) + wrongs(case, seen)
        result["start_s"] = program.start_s - seen["build_s"]
    result |= {"raw": seen} | values(case, seen)
    return result


def catch_up(place, program):
    """How long a twin takes that starts when all sessions are there, under full load."""
    control = Control(place.control)
    start(control)
    wait_until(lambda: control.figure(0, "passes") >= 2, 60.0, "the device did not send 2 passes")
    before = control.mark()
    seconds = program.catch_up()
    load = between(before, control.mark(), control["tsc_hz"])
    control["run"] = 0
    time.sleep(0.05)
    raw = summary(control, [load])
    return {"problems": program.problems(raw), "raw": raw, "start_s": program.start_s,
            "values": [seconds], "value": seconds, "cycles": 0}


def wrongs(case, summary):
    bad = sum(port["bad_checksums"] for port in summary["ports"])
    found = [f"{bad} wrong checksums"] if bad else []
    if case.fill_passes:
        filled = summary["passes"][case.fill_passes - 1]
        if filled["sent"] < filled["packets"] * 0.999:
            found.append(f"of {filled['packets']} new sessions {filled['sent']} got through")
    return found


def values(case, summary):
    """The figure of the case, once for each segment, and their median."""
    if case.fill_passes:
        found = [summary["passes"][case.fill_passes - 1]["mpps"]]
    else:
        found = [segment[case.metric] for segment in summary["segments"]]
    return {"values": found, "value": statistics.median(found),
            "cycles": summary["tsc_hz"] / statistics.median(found) / 1e6}


def progress(number, count, result, case, round_number):
    text = (f"[{number}/{count}] round {round_number}: {case.name:16} {result['program']:9}"
            f"{result['value']:8.2f} {case.unit}")
    if result.get("memory"):
        memory = result["memory"]
        text += f", {(memory['after'] - memory['before']) / case.flows:.0f} B/session"
    print(text, flush=True)
    for problem in result["problems"]:
        print(f"    problem: {problem}", flush=True)


def run_all(cases, place, rounds, pace):
    results, number = [], 0
    count = rounds * sum(len(case.programs) for case in cases)
    for round_number in range(1, rounds + 1):
        for case in cases:
            for program in case.programs:
                number += 1
                try:
                    result = run(case, program, place, pace)
                except (Failed, OSError, SubprocessError) as error:
                    print(f"[{number}/{count}] {case.name} {program.name}: {error}", flush=True)
                    results.append({"case": case.name, "program": program.name,
                                    "round": round_number, "problems": [str(error)]})
                    continue
                results.append(result | {"round": round_number})
                progress(number, count, result, case, round_number)
    return results


def chosen(only, quick):
    all_cases = checks() + established() + new() + scale() + floods() + overhead() + twin()
    return [case for case in all_cases
            if case.group in only + ["check"] and (case.quick or not quick)]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--preload", required=True)
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(GROUPS))
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def main():
    # As Ctrl-C does: programs are stopped and files removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    a = arguments()
    cases = chosen(a.only.split(","), a.quick)
    pace = {"warm": 2, "warm_seconds": 0.0, "segments": 2, "seconds": 0.2} if a.quick else \
        {"warm": 3, "segments": 3, "seconds": 0.5}
    with tempfile.TemporaryDirectory(prefix="krono-bench-") as directory:
        results = run_all(cases, Place(directory, a.preload, a.binaries), a.rounds, pace)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    report.write(out, cases, results, a.rounds)
    failed = [result for result in results if result["problems"]]
    if failed:
        print(f"\n{len(failed)} of {len(results)} runs had problems, see above")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
