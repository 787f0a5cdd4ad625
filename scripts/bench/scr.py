#!/usr/bin/env python3
"""Turns the figures of `cargo bench -p krono-io --bench scr -- model` into a plot for each program
and a table; see scripts/scr-figures.sh --help."""
import argparse
import json
from html import escape
from pathlib import Path

from report import machine, revision

CORES = range(1, 15)
TRACES = ["one flow", "zipf"]
RUNNERS = {"sharded": "#1f77b4", "RSS++": "#2ca02c", "locked": "#d62728", "atomics": "#9467bd",
           "replicated": "#222222"}
# Of a state that cores share: the part of a step that only one core can be in, and a step.
SHARED = {"locked": ("serial", "step_locked"), "atomics": ("serial_atomics", "step_atomics")}


# ---- The model ----

class Case:
    """A program on a trace, beside a program that does nothing: cycles in, Mpps out."""

    def __init__(self, figures, nothing, hz):
        self.figures, self.nothing, self.mhz = figures, nothing, hz / 1e6
        self.program, self.trace = figures["program"], figures["trace"]

    def cycles(self, name, cores=1):
        return self.figures[f"{name}/{cores}"]

    def points(self, name):
        """For how many cores a figure was measured."""
        numbers = [key.split("/")[1] for key in self.figures if key.startswith(name + "/")]
        return sorted(map(int, numbers))

    @property
    def d(self):
        return self.nothing["sharded/1"]

    @property
    def d_pipe(self):
        return self.nothing["replicated/1"]

    @property
    def c1(self):
        return self.cycles("c1")

    @property
    def c2(self):
        return self.cycles("c2", 7)

    @property
    def runners(self):
        return [runner for runner in RUNNERS if runner != "atomics" or self.points(runner)]

    def sequencer(self, cores):
        """Cycles of the sequencer's lcore, between two measured numbers in proportion."""
        points = self.points("sequencer")
        above = next(number for number in points if number >= cores)
        below = max(number for number in points if number <= cores)
        a, b = self.cycles("sequencer", below), self.cycles("sequencer", above)
        return a if above == below else a + (b - a) * (cores - below) / (above - below)

    def replica(self, cores):
        """Cycles of a packet on one core of a group."""
        return self.d_pipe + self.c1 + (cores - 1) * self.c2

    def model(self, runner, cores):
        if runner == "sharded":
            return self.mhz / ((self.d + self.c1) * self.cycles("share", cores))
        if runner == "RSS++":
            return self.mhz / ((self.d + self.c1) * self.cycles("share_rsspp", cores))
        if runner in SHARED:
            section, step = SHARED[runner]
            serial = self.cycles(section, 2)
            if cores == 1:
                return self.mhz / (self.d + self.cycles(step))
            return min(cores * self.mhz / (self.d + serial), self.mhz / serial)
        return min(cores * self.mhz / self.replica(cores), self.mhz / self.sequencer(cores))

    def measured(self, runner):
        """Pairs of cores and Mpps that two CPUs can show, each beside what the model says of it."""
        def point(name, cores, expected):
            return cores, self.mhz / self.cycles(name, cores), expected
        if runner == "sharded":
            return [point("sharded", 1, self.model("sharded", 1))]
        if runner in SHARED:
            return [point(runner, cores, self.model(runner, cores)) for cores in (1, 2)]
        if runner == "replicated":
            return [point("whole", 1, self.model("replicated", 1))]
        return []

    def of_one_core(self):
        """As many times what one core of a group was measured to do, if its sequencer keeps up."""
        return [(cores, cores * self.mhz / self.cycles("replicated", cores),
                 cores * self.mhz / self.replica(cores)) for cores in self.points("replicated")]


# ---- The plots ----

WIDTH, HEIGHT, LEFT, TOP, PLOT_W, PLOT_H, GAP = 860, 400, 56, 66, 350, 250, 54


def plot(cases, facts):
    parts = [text(12, 26, f"{cases[0].program}: packets a second by cores", "title"),
             text(12, 45, facts, "small")]
    for index, case in enumerate(cases):
        parts += panel(case, LEFT + index * (PLOT_W + GAP))
    parts += legend(cases[0], HEIGHT - 34)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}">\n'
            '<style>text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:15px}'
            '.small{font-size:11px;fill:#555}.end{text-anchor:end}.mid{text-anchor:middle}</style>\n'
            '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def nice_above(value):
    return next(step * count for step in (1, 2, 5, 10, 20, 50) for count in range(4, 9)
                if step * count >= value)


def text(x, y, words, kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def line(points, colour, width=2, dashes=""):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-dasharray="{dashes}"/>')


def panel(case, left):
    top = nice_above(max(max(case.model(runner, cores) for runner in case.runners for cores in CORES),
                         max(mpps for _, mpps, _ in case.of_one_core())))

    def place(cores, mpps):
        return (left + (cores - 1) / (CORES[-1] - 1) * PLOT_W, TOP + PLOT_H * (1 - mpps / top))
    parts = [text(left + PLOT_W / 2, TOP - 10, case.trace, "mid")]
    for quarter in range(5):
        mpps = top * quarter / 4
        x, y = place(1, mpps)
        parts.append(line([(x, y), (x + PLOT_W, y)], "#ddd", 1))
        parts.append(text(x - 8, y + 4, f"{mpps:g}", "end"))
    for cores in CORES:
        x, y = place(cores, 0)
        parts.append(text(x, y + 17, str(cores), "mid"))
    parts.append(text(left - 8, TOP - 10, "Mpps", "end small"))
    free = [(cores, cores * case.mhz / case.replica(cores)) for cores in CORES]
    parts.append(line([place(*point) for point in free if point[1] <= top], "#999", 1.5, "5 4"))
    for runner in case.runners:
        colour = RUNNERS[runner]
        parts.append(line([place(cores, case.model(runner, cores)) for cores in CORES], colour))
        parts += [dot(*place(cores, mpps), colour) for cores, mpps, _ in case.measured(runner)]
    parts += [ring(*place(cores, mpps)) for cores, mpps, _ in case.of_one_core()]
    return parts


def dot(x, y, colour):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" stroke="#fff"/>'


def ring(x, y):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="#777" stroke-width="1.5"/>'


def legend(case, y):
    parts, x = [], LEFT
    for runner in case.runners:
        parts += [line([(x, y), (x + 24, y)], RUNNERS[runner]), text(x + 30, y + 4, runner)]
        x += 96
    parts += [line([(x, y), (x + 24, y)], "#999", 1.5, "5 4"),
              text(x + 30, y + 4, "replicated, if the sequencer were no limit")]
    y += 20
    parts += [dot(LEFT + 12, y, "#222"), text(LEFT + 30, y + 4, "measured on two CPUs"),
              ring(LEFT + 236, y),
              text(LEFT + 250, y + 4, "one core of so many measured, times their number")]
    return parts


# ---- The table ----

def error(measured, expected):
    return f"{expected / measured - 1:+.0%}"


def point_row(case, points):
    return (f"| `{case.program}` | {case.trace} | "
            + " | ".join(f"{mpps:.1f} ({error(mpps, expected)})" for _, mpps, expected in points)
            + " |")


def table(cases, conditions):
    rows = ["# The throughput model of State-Compute Replication", "",
            "Written by `scripts/scr-figures.sh`; do not edit. What the columns mean, how they are",
            "measured and what they do not show is in [scr.md](scr.md).", "", conditions, "",
            "Cycles of a packet:", "",
            "| program | trace | d | d from a pipe | c1 | c2 | locked step | serial section "
            "| sequencer, 7 cores | 14 |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for case in cases:
        figures = [case.d, case.d_pipe, case.c1, case.c2, case.cycles("step_locked"),
                   case.cycles("serial", 2), case.sequencer(7), case.sequencer(14)]
        rows.append(f"| `{case.program}` | {case.trace} | "
                    + " | ".join(f"{figure:.0f}" for figure in figures) + " |")
    rows += ["", "Mpps by the model, for 1, 2, 4, 7 and 14 cores:", "",
             "| program | trace | runner | 1 | 2 | 4 | 7 | 14 |", "|---|---|---|" + "---:|" * 5]
    for case in cases:
        for runner in case.runners:
            mpps = [f"{case.model(runner, cores):.1f}" for cores in (1, 2, 4, 7, 14)]
            rows.append(f"| `{case.program}` | {case.trace} | {runner} | " + " | ".join(mpps)
                        + " |")
    rows += ["", "Points that two CPUs can show: measured Mpps, and how far the model is off:", "",
             "| program | trace | sharded, 1 core | locked, 1 | locked, 2 "
             "| replicated, 1 and a sequencer |", "|---|---|---:|---:|---:|---:|"]
    for case in cases:
        points = [case.measured(runner) for runner in ("sharded", "locked", "replicated")]
        rows.append(point_row(case, sum(points, [])))
    rows += ["", "The same with a state of atomics, by one core and by two:", ""]
    rows += ["| program | trace | locked, 1 | locked, 2 | atomics, 1 | atomics, 2 |",
             "|---|---|" + "---:|" * 4]
    for case in cases:
        if "atomics" in case.runners:
            rows.append(point_row(case, case.measured("locked") + case.measured("atomics")))
    numbers = cases[0].points("replicated")
    rows += ["", "One core of a group of N, its measured rate times N, Mpps, and how far the model "
             "is off; no sequencer", "need keep up with these:", "",
             "| program | trace | " + " | ".join(f"N = {number}" for number in numbers) + " |",
             "|---|---|" + "---:|" * len(numbers)]
    for case in cases:
        rows.append(point_row(case, case.of_one_core()))
    return "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("figures", help="what the bench wrote")
    parser.add_argument("out", help="the directory of the plots and the table")
    arguments = parser.parse_args()
    figures = json.loads(Path(arguments.figures).read_text())
    nothing = {case["trace"]: case for case in figures["cases"] if case["program"] == "nothing"}
    cases = [Case(case, nothing[case["trace"]], figures["hz"]) for case in figures["cases"]
             if case["program"] != "nothing"]
    cases.sort(key=lambda case: (case.program, TRACES.index(case.trace)))
    out = Path(arguments.out)
    conditions = f"{machine(figures['hz'])}; krono {revision()}; medians of five"
    for program in dict.fromkeys(case.program for case in cases):
        of_program = [case for case in cases if case.program == program]
        (out / f"scr-{program}.svg").write_text(plot(of_program, conditions))
    (out / "scr-model.md").write_text(table(cases, conditions))


if __name__ == "__main__":
    main()
