#!/usr/bin/env python3
"""Measures what bench-gen's packets cost, beside dpdk-testpmd's; started by scripts/bench-gen.sh,
which has what they need."""
import argparse
import json
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE, SubprocessError

import report
from measure import Failed
from programs import WORKER_CPU, Place, Program, memory_of, testpmd

MILLION = 1_000_000
# Goals: the cost of a packet sent and received to testpmd's, bytes for a flow, percent of a rate.
COST_MAX, BYTES_MAX, RATE_ERROR_MAX = 2.0, 64.0, 1.0

# What testpmd does: name, mode, device, more options. Data of 60 bytes are frames of 64; flowgen
# takes the checksum off by itself.
SOURCE = "net_null0,no-rx=1"
FLOWS = f"--flowgen-flows={MILLION}"
TESTPMD = [
    ("flowgen, ring", "flowgen", "net_ring0", [FLOWS]),
    ("flowgen, net_null", "flowgen", SOURCE, [FLOWS]),
    ("txonly, net_null", "txonly", SOURCE, ["--txpkts=60"]),
    ("rxonly, net_null", "rxonly", "net_null0,size=60", []),
]
# What bench-gen tells of itself: the name here and in its report.
COSTS = [
    ("sent and received, ring", "cost of a packet, all told"),
    ("sent", "cost of a packet, sent"),
    ("received and checked", "cost of a packet, received and checked"),
]
WHOLE = "bench-gen sent and received, ring"
PEER = "testpmd flowgen, ring"


class Testpmd(Program):
    """One of its modes, which it counts the cycles of by itself."""

    COST = re.compile(r"CPU cycles/packet=([0-9.]+) .* at (\d+) MHz")

    def __init__(self, place, mode, device, more):
        super().__init__(place, None)
        self.command = testpmd(mode, [device], "--interactive", "--record-core-cycles", *more)

    def start(self):
        self.process = self.spawn(self.command, stdin=PIPE)
        self.say("start")

    def settle(self):
        time.sleep(0.7)  # it starts, and then its caches are warm

    def say(self, line):
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def cost(self, seconds):
        """Cycles for each packet over so long; and the counter's frequency, MHz."""
        self.say("clear fwd stats all")
        time.sleep(seconds)
        self.say("show fwd stats all\nstop\nquit")
        self.process.stdin.close()
        self.process.wait(timeout=20)
        # The first is what was shown; the one at the stop has the way there in it.
        found = self.COST.search(self.place.log("dpdk-testpmd").read_text(errors="replace"))
        if not found:
            raise Failed(f"testpmd tells no cycles: {self.last_words(self.process)}")
        return float(found[1]), int(found[2])


PROFILE = """\
eal: {{ memory: 256M, hugepages: required, lcores: "0@{cpu}", idle: busy }}
inside: {{ device: net_null0, address: 10.0.0.254/24, next_hop: 10.0.0.1 }}
outside: {{ device: net_null1, address: 192.0.2.254/24, next_hop: 192.0.2.1 }}
subscribers: {{ network: 100.64.0.0/10, count: 64K }}
protocols: {{ udp: 1 }}
flows: {flows}
sizes: 64
rate: max
"""


class BenchGen(Program):
    """A self-check over rings: the profile's devices are not opened."""

    def __init__(self, place, flows, trial_ms, rates):
        super().__init__(place, None)
        self.flows, self.trial_ms, self.rates = flows, trial_ms, rates
        self.json = place.directory / "self-check.json"
        self.memory = 0

    def start(self):
        profile = self.place.directory / "profile.yaml"
        profile.write_text(PROFILE.format(cpu=WORKER_CPU, flows=self.flows))
        self.spawn([str(self.place.binaries / "bench-gen"), "self-check", "--quiet",
                    "--profile", str(profile), "--json", str(self.json),
                    "--trial", f"{self.trial_ms}ms", "--rates", ",".join(map(str, self.rates))])

    def report(self, timeout=120):
        """Its report, when it is done; the most memory that it had is in `memory` then."""
        process, deadline = self.processes[0], time.monotonic() + timeout
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise Failed(f"bench-gen is not done after {timeout} s")
            try:
                self.memory = max(self.memory, memory_of(process))
            except (KeyError, OSError):
                pass  # it has ended meanwhile
            time.sleep(0.02)
        try:
            return json.loads(self.json.read_text())
        except ValueError:
            raise Failed(f"bench-gen has no report: {self.last_words(process)}") from None


def self_check(place, flows, trial_ms, rates):
    """Its figures by name, what it complains of, its memory, and how bursty each rate was."""
    with BenchGen(place, flows, trial_ms, rates) as program:
        told = program.report()
        figures = {figure["name"]: figure["median"] for figure in told["figures"]}
        kept = [table for table in told["tables"] if table["title"] == "How well rates are kept"]
        rows = kept[0]["rows"] if kept else []
        return {"figures": figures, "complaints": told["complaints"], "memory": program.memory,
                "bursts": {row[0]: row[3] for row in rows}}


# ---- Rounds ----

def run_round(place, number, pace):
    """Every program once: cycles by what they are for, and bench-gen's report."""
    found = {"round": number, "cycles": {}, "mhz": 0}
    for name, mode, device, more in TESTPMD:
        with Testpmd(place, mode, device, more) as program:
            found["cycles"][f"testpmd {name}"], found["mhz"] = program.cost(pace["seconds"])
    checked = self_check(place, MILLION, pace["trial_ms"], pace["rates"])
    for name, figure in COSTS:
        found["cycles"][f"bench-gen {name}"] = checked["figures"][figure]
    found["self_check"] = checked
    costs = ", ".join(f"{name} {cycles:.0f}" for name, cycles in found["cycles"].items())
    print(f"round {number}: cycles a packet: {costs}", flush=True)
    return found


def memory(place, flows, pace):
    """What so many flows take, beside a few."""
    few = 1000
    taken = {}
    for count in (few, flows):
        started = time.monotonic()
        checked = self_check(place, count, pace["trial_ms"], pace["rates"][:1])
        taken[count] = checked | {"seconds": time.monotonic() - started}
    each = (taken[flows]["memory"] - taken[few]["memory"]) / (flows - few)
    print(f"memory: {flows} flows, {each:.1f} bytes each", flush=True)
    return {"flows": flows, "bytes": each, "total": taken[flows]["memory"],
            "few": few, "total_of_few": taken[few]["memory"],
            "seconds": taken[flows]["seconds"],
            "complaints": taken[few]["complaints"] + taken[flows]["complaints"]}


# ---- What came of it ----

def ratio(rounds, name, peer):
    """The median of the rounds' ratios: what the machine does in a round meets both."""
    return statistics.median(run["cycles"][name] / run["cycles"][peer] for run in rounds)


def cost_rows(rounds):
    rows = [["", "cycles a packet", "min–max", "to testpmd flowgen, ring"]]
    for name in rounds[0]["cycles"]:
        values = [run["cycles"][name] for run in rounds]
        rows.append([name, f"{statistics.median(values):.0f}",
                     f"{min(values):.0f}–{max(values):.0f}",
                     f"{ratio(rounds, name, PEER):.2f}×"])
    return rows


def rate_rows(rounds):
    rows = [["wanted packets/s", "error", "min–max", "most in 1 ms, × the mean"]]
    checks = [run["self_check"] for run in rounds]
    for rate in checks[0]["bursts"]:
        errors = rate_errors(rounds, rate)
        bursts = [float(check["bursts"][rate]) for check in checks if rate in check["bursts"]]
        rows.append([rate, f"{statistics.median(errors):+.3f} %",
                     f"{min(errors):+.3f}–{max(errors):+.3f} %",
                     f"{statistics.median(bursts):.2f} ({min(bursts):.2f}–{max(bursts):.2f})"])
    return rows


def rate_errors(rounds, rate):
    name = f"rate error at {rate} packets/s"
    figures = [run["self_check"]["figures"] for run in rounds]
    return [known[name] for known in figures if name in known]


def memory_rows(taken):
    return [["live flows", "bytes each", "process in all", "of which without flows", "run took"],
            [f"{taken['flows']:,}", f"{taken['bytes']:.1f}", f"{taken['total'] / 2**20:.0f} MiB",
             f"{taken['total_of_few'] / 2**20:.0f} MiB", f"{taken['seconds']:.0f} s"]]


def shortfalls(rounds, taken):
    """Goals that were missed, in words."""
    found = []
    times = ratio(rounds, WHOLE, PEER)
    if times > COST_MAX:
        found.append(f"{WHOLE}: {times:.2f} times testpmd's flowgen, not {COST_MAX:g} at most")
    if round(taken["bytes"], 1) > BYTES_MAX:
        found.append(f"a flow takes {taken['bytes']:.1f} bytes; at most {BYTES_MAX:g} are wanted")
    for rate in rounds[0]["self_check"]["bursts"]:
        worst = max(rate_errors(rounds, rate), key=abs)
        if abs(worst) > RATE_ERROR_MAX:
            found.append(f"{rate} packets/s are off by {worst:.2f} %")
    return found


def wrongs(rounds, taken):
    """What bench-gen complains of, rates aside."""
    checks = [run["self_check"]["complaints"] for run in rounds] + [taken["complaints"]]
    said = {complaint for complaints in checks for complaint in complaints}
    return sorted(one for one in said if not one.startswith("the rate is off"))


EXPLANATION = """\
Medians over rounds, and extremes. Cycles are of the time-stamp counter. Over a ring both programs
allocate a packet, write it, enqueue it, dequeue it and free it, with the same driver and the same
kind of pool. That is the fair comparison, since over net_null testpmd's sender frees what its
receiver allocates. The goal is that bench-gen, sending and receiving together, takes no more than
twice what testpmd's flowgen takes. flowgen writes the same 60 bytes, counts up
the destination address, and sums up the IP header only; what arrives it does not look at. bench-gen
draws who sends to whom, stamps, numbers and sums up every packet, and checks all of that, order,
latency and translation at the other end, with 64 MB of flows that are read and written twice."""


def conditions(rounds):
    facts = report.machine(rounds[0]["mhz"] * 1_000_000)
    count = f"{len(rounds)} rounds" if len(rounds) > 1 else "one round"
    return [facts, f"krono {report.revision()}, DPDK {report.version('libdpdk-dev')}",
            f"one worker on CPU {WORKER_CPU}, huge pages, bursts of 32",
            f"{count}, the programs one after the other in each; {time.strftime('%Y-%m-%d %H:%M')}"]


def write(out, rounds, taken):
    out.mkdir(parents=True, exist_ok=True)
    facts = conditions(rounds)
    tables = [("A UDP frame of 64 bytes, 1M flows", cost_rows(rounds)),
              ("Rates over rings", rate_rows(rounds)), ("Memory", memory_rows(taken))]
    runs = {"conditions": facts, "rounds": rounds, "memory": taken}
    (out / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")
    lines = ["# What bench-gen costs", ""] + [f"* {fact}" for fact in facts] + ["", EXPLANATION]
    for title, rows in tables:
        lines += ["", f"## {title}", ""] + report.markdown_table(rows)
    (out / "cost.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(facts))
    for title, rows in tables:
        print("\n".join([f"\n{title}"] + report.columns(rows)))
    print(f"\nIn {out}: cost.md, runs.json")


def main():
    # As Ctrl-C does: programs are stopped and files removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    a = parser.parse_args()
    pace = {"seconds": 0.2, "trial_ms": 200, "rates": [10_000]} if a.quick else \
        {"seconds": 1.0, "trial_ms": 1000, "rates": [10_000, 100_000, MILLION]}
    flows = MILLION if a.quick else 10 * MILLION
    with tempfile.TemporaryDirectory(prefix="krono-bench-") as directory:
        place = Place(directory, None, a.binaries)
        rounds = [run_round(place, number, pace) for number in range(1, a.rounds + 1)]
        taken = memory(place, flows, pace)
    write(Path(a.out), rounds, taken)
    problems = wrongs(rounds, taken) + ([] if a.quick else shortfalls(rounds, taken))
    for problem in problems:
        print(f"problem: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, OSError, SubprocessError) as error:
        sys.exit(f"gen.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
