"""Compares instructions per packet with the stored ones; see scripts/instructions.sh.

Growth above 3 % is a failure, unless CHANGELOG.md has a line

    * instructions: NAME OLD -> NEW, REASON

where OLD is what is stored for NAME and NEW is within 3 % of what is counted now.
"""

import argparse
import json
import re
import sys
from pathlib import Path

STORED = "krono-nat/benches/instructions.txt"
BENCH = "krono-nat/benches/instructions.rs"
CHANGELOG = "CHANGELOG.md"
TOLERANCE = 0.03

HEADER = """\
# Instructions per packet. They belong to a compiler; scripts/instructions.sh compares with them,
# and with --renew it writes this file.
"""
COMPILER = "# compiler: "
EXCEPTION = re.compile(r"\* instructions: (\S+) (\d+) -> (\d+), \S")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--counts", type=Path, required=True, help="what gungraun printed as JSON")
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--renew", action="store_true")
    arguments = parser.parse_args()

    counted = read_counts(arguments.counts, arguments.root / BENCH)
    compiler, stored = read_stored(arguments.root / STORED)
    print_table(stored, counted)
    if compiler not in (None, arguments.compiler):
        print(f"the stored counts are of {compiler}, these of {arguments.compiler}: only reported")
        mistakes = []
    else:
        mistakes = unexplained(stored, counted, (arguments.root / CHANGELOG).read_text())
        if not arguments.renew:
            mistakes += strangers(stored, counted)
    for mistake in mistakes:
        print(f"error: {mistake}", file=sys.stderr)
    if mistakes:
        return 1
    if arguments.renew:
        lines = [f"{name} {count}\n" for name, count in counted.items()]
        text = f"{HEADER}{COMPILER}{arguments.compiler}\n" + "".join(lines)
        (arguments.root / STORED).write_text(text)
    elif shrunk := [name for name in stored if less(counted.get(name), stored[name])]:
        print(f"{', '.join(shrunk)}: less than stored; run scripts/instructions.sh --renew")
    return 0


def read_counts(path, bench):
    """Name to instructions per packet, in the order of the benches."""
    packets = int(re.search(r"^const PACKETS: usize = (\d+);$", bench.read_text(), re.M)[1])
    counts = {}
    for line in path.read_text().splitlines():
        bench = json.loads(line)
        metrics = bench["profiles"][0]["data"]["total"]["metrics"]
        total = metrics["Ir"]["values"]["new"]
        counts[f"{bench['function_name']}.{bench['id']}"] = round(total / packets)
    if not counts:
        sys.exit(f"error: {path} has no counts")
    return counts


def read_stored(path):
    """The compiler (None if there are no counts yet), and name to instructions per packet."""
    compiler, counts = None, {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith(COMPILER):
            compiler = line.removeprefix(COMPILER)
        elif line and not line.startswith("#"):
            name, count = line.split()
            counts[name] = int(count)
    return compiler, counts


def print_table(stored, counted):
    print(f"{'instructions per packet':24}{'stored':>8}{'now':>8}{'change':>10}")
    for name in counted | stored:
        old, new = stored.get(name), counted.get(name)
        change = f"{100 * (new / old - 1):+.1f} %" if old and new else "-"
        print(f"{name:24}{old or '-':>8}{new or '-':>8}{change:>10}")


def unexplained(stored, counted, changelog):
    """Growth that the changelog does not account for."""
    found = (EXCEPTION.match(line) for line in changelog.splitlines())
    exceptions = [(match[1], int(match[2]), int(match[3])) for match in found if match]
    mistakes = []
    for name, new in counted.items():
        old = stored.get(name, new)
        explained = any(
            name == of and old == before and abs(new - after) <= TOLERANCE * after
            for of, before, after in exceptions
        )
        if new > old * (1 + TOLERANCE) and not explained:
            mistakes.append(
                f"{name} takes {new} instructions per packet, {100 * (new / old - 1):.1f} % more "
                f"than the {old} stored; if that must be, {CHANGELOG} needs the line "
                f"`* instructions: {name} {old} -> {new}, REASON`"
            )
    return mistakes


def strangers(stored, counted):
    """Names on one side only: what is not compared could grow unseen."""
    names = sorted(stored.keys() ^ counted.keys())
    renew = "run scripts/instructions.sh --renew"
    return [f"{', '.join(names)}: not both stored and counted; {renew}"] if names else []


def less(new, old):
    return new is not None and new < old * (1 - TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
