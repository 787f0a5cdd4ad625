"""Turns the runs of peers.py into a table, a JSON file and a chart."""
import json
import os
import platform
import statistics
import subprocess
import time
from html import escape

PROGRAMS = ["testpmd", "krono", "OVS-DPDK"]
TITLES = {
    "check": "Checks",
    "established": "Established flows",
    "new": "New sessions",
    "churn": "Established packets forwarded, with new sessions among them",
    "scale": "Live sessions",
    "floods": "Established packets forwarded under floods",
    "overhead": "Firewall rules",
    "twin": "A twin on another server",
    "catch-up": "A twin that starts under full load",
}


# ---- Figures ----

def summaries(cases, results):
    """A row for each case and program: medians over the rounds, extremes over all segments."""
    rows = []
    for case in cases:
        for program in PROGRAMS:
            runs = [run for run in results if run["case"] == case.name
                    and run["program"] == program and "value" in run]
            if runs and not case.must_be_right:
                rows.append(summary(case, program, runs, results))
    return rows


def summary(case, program, runs, results):
    every = [value for run in runs for value in run["values"]]
    def to_peer(peer):
        return ratio(runs, results, case.name, peer) if program == "krono" else None
    return {"case": case, "program": program, "runs": len(runs),
            "median": statistics.median(run["value"] for run in runs),
            "min": min(every), "max": max(every),
            "cycles": statistics.median(run["cycles"] for run in runs),
            "to_testpmd": to_peer("testpmd"), "to_ovs": to_peer("OVS-DPDK"),
            "to_without": ratio(runs, results, case.without, program),
            "notes": notes(case, runs)}


def ratio(runs, results, case, program):
    """The median of the rounds' ratios: what the machine does in a round meets both."""
    values = {run["round"]: run["value"] for run in results
              if run["case"] == case and run["program"] == program and "value" in run}
    ratios = [run["value"] / values[run["round"]] for run in runs if run["round"] in values]
    return statistics.median(ratios) if ratios else None


def median_of(runs, figure):
    return statistics.median(figure(run) for run in runs)


def notes(case, runs):
    if runs[0]["program"] != "krono":
        return ""
    if case.name == "churn-1m":
        fresh = median_of(runs, lambda run: run["raw"]["median"]["fresh_mps"])
        return f"{fresh:.2f} M new sessions/s"
    if "half" in runs[0]["raw"]:
        return twin_notes(runs)
    if case.section == "floods" and case.name != "flood-none":
        return flood_notes(runs)
    if case.memory:
        grown = median_of(runs, lambda run: run["memory"]["after"] - run["memory"]["before"])
        start = median_of(runs, lambda run: run["start_s"])
        return f"{grown / case.flows:.0f} bytes a session, started in {start:.2f} s"
    return ""


def twin_notes(runs):
    """What the two said to each other."""
    def bytes_each(run):
        shard, outside = run["raw"]["kronod"], run["raw"]["ports"][1]
        events = shard["sessions_created"] + shard["sessions_deleted"]
        return outside["cable_tx_bytes"] / events if events else 0.0
    frames = median_of(runs, lambda run: run["raw"]["ports"][1]["cable_tx"])
    fresh = median_of(runs, lambda run: run["raw"].get("median", {}).get("fresh_mps", 0.0))
    load = median_of(runs, lambda run: run["raw"]["segments"][0]["tx_mpps"])
    return (f"{median_of(runs, bytes_each):.1f} bytes of frames for each session begun or ended, "
            f"{frames:,.0f} frames" + (f", {fresh:.2f} M new sessions/s" if fresh else "")
            + (f", under {load:.2f} Mpps" if runs[0]["case"] == "twin-catch-up" else ""))


def flood_notes(runs):
    received = median_of(runs, lambda run: run["raw"]["median"]["rx_mpps"])
    def lost(run):
        inside, outside = run["raw"]["ports"]
        given = inside["rx"] - inside["rx_flood"]
        return 1 - (outside["tx"] - outside["tx_flood"]) / given
    return f"{received:.2f} Mpps arrive; {median_of(runs, lost):.2%} of the established lost"


# ---- The machine ----

def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown CPU"


def version(package):
    answer = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True,
                            text=True)
    return answer.stdout if answer.returncode == 0 else "unknown"


def revision():
    answer = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True,
                            text=True)
    return answer.stdout.strip() or "of no known revision"


def machine(hz):
    return (f"{cpu_model()}, {os.cpu_count()} CPUs, TSC {hz / 1e9:.2f} GHz, "
            f"Linux {platform.release()}")


def conditions(results, rounds):
    hz = next((run["raw"]["tsc_hz"] for run in results if "raw" in run), 0)
    rounds = f"{rounds} rounds" if rounds > 1 else "one round"
    return [
        machine(hz),
        f"krono {revision()}, DPDK {version('libdpdk-dev')}, "
        f"Open vSwitch {version('openvswitch-switch-dpdk')}",
        "one worker on CPU 1, control threads on CPU 0",
        f"{rounds}, the programs of a workload one after the other in each; "
        f"{time.strftime('%Y-%m-%d %H:%M')}",
    ]


# ---- Tables ----

def cells(row):
    case = row["case"]
    def times(value):
        return f"{value:.2f}×" if value is not None else ""
    return [case.title, case.frame, row["program"], f"{row['median']:.2f}",
            f"{row['min']:.2f}–{row['max']:.2f}", f"{row['cycles']:.0f}",
            times(row["to_testpmd"]), times(row["to_ovs"]), times(row["to_without"]),
            row["notes"]]


def header(unit):
    return ["workload", "bytes", "program", unit, "min–max", "cycles each", "to testpmd",
            "to OVS", "to first", ""]


def sections(rows):
    for section, title in TITLES.items():
        of_section = [row for row in rows if row["case"].section == section]
        if of_section:
            yield title, of_section[0]["case"].unit, of_section


def columns(table):
    """A table's lines, its head first, for a terminal."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            for line in table]


def markdown_table(table, right=slice(1, None)):
    """The same for a page; which columns are figures, and stand at the right."""
    rule = ["---"] * len(table[0])
    rule[right] = ["---:"] * len(rule[right])
    head, *rows = ["| " + " | ".join(line) + " |" for line in table]
    return [head, "|" + "|".join(rule) + "|", *rows]


def table_of(unit, of_section):
    return [header(unit)] + [cells(row) for row in of_section]


def text_table(rows):
    lines = []
    for title, unit, of_section in sections(rows):
        lines += [f"\n{title}"] + columns(table_of(unit, of_section))
    return "\n".join(lines)


EXPLANATION = """\
Medians over rounds, extremes over all measured segments. Ratios are medians of the ratios within a
round; "to first" is to the first workload of the table, which lacks what the others have. Packets
both ways are counted both ways. "Bytes" are those of Ethernet frames with their checksum. Cycles
are of the time-stamp counter, for each packet, new session or, under floods, established packet.
Of long frames the device copies the headers only: a NIC would not occupy the CPU with the rest."""


def markdown(rows, facts):
    lines = ["# krono and its peers", ""] + [f"* {fact}" for fact in facts]
    lines += ["", EXPLANATION]
    for title, unit, of_section in sections(rows):
        lines += ["", f"## {title}", ""]
        lines += markdown_table(table_of(unit, of_section), right=slice(3, 9))
    return "\n".join(lines) + "\n"


# ---- The chart ----

COLOURS = {"testpmd": "#b8b8b8", "krono": "#c8102e", "OVS-DPDK": "#2b6cb0"}
WIDTH, LABELS, BARS, ROW, PANEL = 960, 370, 470, 20, 58


def bar(row, y, scale):
    """One bar with its whisker and figure."""
    middle = y + ROW / 2
    length, low, high = (row[name] * scale for name in ("median", "min", "max"))
    return [
        f'<rect x="{LABELS}" y="{y + 2}" width="{length:.1f}" height="{ROW - 5}" '
        f'fill="{COLOURS[row["program"]]}"/>',
        f'<path d="M{LABELS + low:.1f} {middle}H{LABELS + high:.1f}m0 -4v8M{LABELS + low:.1f} '
        f'{middle - 4}v8" stroke="#222" fill="none"/>',
        f'<text x="{LABELS + max(length, high) + 7:.1f}" y="{middle + 4}">{row["median"]:.2f}'
        f'</text>',
    ]


def panel(title, unit, rows, y):
    """The bars of one section, on a scale of their own."""
    parts = [f'<text x="12" y="{y + 34}" class="title">{escape(title)}, {escape(unit)}</text>']
    scale = BARS / max(row["max"] for row in rows)
    y += PANEL - 12
    previous = None
    for row in rows:
        if row["case"] is not previous:
            y += 6 if previous else 0
            parts.append(f'<text x="{LABELS - 8}" y="{y + ROW / 2 + 4}" text-anchor="end">'
                         f'{escape(row["case"].title)}</text>')
            previous = row["case"]
        parts += bar(row, y, scale)
        y += ROW
    return parts, y


def legend(rows, y):
    parts, x = [], 12
    for program in PROGRAMS:
        if any(row["program"] == program for row in rows):
            parts.append(f'<rect x="{x}" y="{y - 11}" width="12" height="12" '
                         f'fill="{COLOURS[program]}"/><text x="{x + 18}" y="{y}">{program}</text>')
            x += 110
    parts.append(f'<text x="{x}" y="{y}" class="small">bar: median; line: least to most</text>')
    return parts


def is_charted(row):
    """The bound is drawn once; beside it, what other sections compare would be small."""
    return row["program"] != "testpmd" or row["case"].section == "established"


def chart(rows, facts):
    rows = [row for row in rows if is_charted(row)]
    parts = ['<text x="12" y="26" class="title">krono and its peers, one core</text>',
             f'<text x="12" y="45" class="small">{escape(facts[0])}</text>',
             f'<text x="12" y="60" class="small">{escape(facts[1])}; {escape(facts[3])}</text>']
    parts += legend(rows, 84)
    y = 86
    for title, unit, of_section in sections(rows):
        more, y = panel(title, unit, of_section, y)
        parts += more
    height = y + 14
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" height="{height:.0f}">\n'
            '<style>text{font:13px sans-serif;fill:#222}.title{font-weight:bold;font-size:15px}'
            '.small{font-size:11px;fill:#555}</style>\n'
            '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def write(out, cases, results, rounds):
    rows, facts = summaries(cases, results), conditions(results, rounds)
    runs = {"conditions": facts, "runs": results,
            "cases": {case.name: {"port0": case.port0, "port1": case.port1, "title": case.title,
                                  "kronod": case.kronod} for case in cases}}
    (out / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")
    (out / "peers.md").write_text(markdown(rows, facts))
    if rows:
        (out / "peers.svg").write_text(chart(rows, facts))
    print("\n" + "\n".join(facts) + "\n" + text_table(rows))
    print(f"\nIn {out}: peers.md, peers.svg, runs.json")
