#!/usr/bin/env python3
"""Draws what `failover --out FILE` saw as a timeline; see scripts/failover-demo.sh --help."""
import argparse
import json
import platform
import time
from html import escape
from os import cpu_count
from pathlib import Path

from report import cpu_model, revision

WIDTH, LEFT, GAP = 1000, 92, 36
# The moment itself, and all until everything is as before.
CLOSE_W, WHOLE_W = 300, 540
CLOSE_MS = (-100, 500)
ROW, HEAD, FOOT = 17, 46, 44
FINE, LATE, LOST = "#dfe8dc", "#f2a33a", "#c8202a"
MARKS = {"event": "#111", "noticed": "#1f5fb4", "routed": "#7d3fb0"}


def text(x, y, words, kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def rect(x, y, w, h, colour, opacity=1.0):
    return (f'<rect x="{x:.2f}" y="{y:.1f}" width="{w:.2f}" height="{h}" fill="{colour}" '
            f'fill-opacity="{opacity:.2f}"/>')


def line(x, top, bottom, colour, dashes=""):
    return (f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{colour}" '
            f'stroke-width="1.2" stroke-dasharray="{dashes}"/>')


class Panel:
    """A stretch of time across some pixels."""

    def __init__(self, left, width, from_ms, to_ms):
        self.left, self.width, self.from_ms, self.to_ms = left, width, from_ms, to_ms

    def x(self, ms):
        return self.left + (ms - self.from_ms) / (self.to_ms - self.from_ms) * self.width

    def shows(self, ms):
        return ms is not None and self.from_ms <= ms <= self.to_ms

    def cells(self, way, least=2.0):
        """Cells of some pixels at least: from where to where, and the packets sent in it, lost and
        late ones among them. What lasted for one bin is seen, however narrow the bin is."""
        per_bin = way["bin_ms"] / (self.to_ms - self.from_ms) * self.width
        step = max(1, round(least / per_bin))
        for first in range(0, len(way["bins"]), step):
            bins = way["bins"][first:first + step]
            start = way["from_ms"] + first * way["bin_ms"]
            end = start + len(bins) * way["bin_ms"]
            if start >= self.from_ms and end <= self.to_ms + way["bin_ms"]:
                yield self.x(start), self.x(min(end, self.to_ms)), [sum(part) for part in zip(*bins)]

    def row(self, way, y):
        parts = [rect(self.left, y, self.width, ROW - 3, FINE)]
        for start, end, (sent, lost, late) in self.cells(way):
            width = end - start + 0.15
            if late:
                parts.append(rect(start, y, width, ROW - 3, LATE, 0.3 + 0.7 * late / sent))
            if lost:
                parts.append(rect(start, y, width, ROW - 3, LOST, 0.3 + 0.7 * lost / sent))
        return parts

    def axis(self, y, step_ms, unit_ms, unit):
        parts = []
        for number in range(int(self.from_ms // step_ms), int(self.to_ms // step_ms) + 1):
            ms = number * step_ms
            if self.shows(ms):
                parts += [line(self.x(ms), y, y + 4, "#888"),
                          text(self.x(ms), y + 16, f"{ms / unit_ms:g}", "mid small")]
        return parts + [text(self.left + self.width + 14, y + 16, unit, "small")]


def block(event, top):
    """What became of traffic in one event."""
    rows_top, rows_end = top + HEAD, top + HEAD + ROW * len(event["ways"])
    close = Panel(LEFT, CLOSE_W, *CLOSE_MS)
    whole = Panel(LEFT + CLOSE_W + GAP, WHOLE_W, -500, event["over_ms"])
    missed = [goal["goal"] for goal in event["goals"] if not goal["held"]]
    old = event["sessions"]
    lost = old["moved"] + old["silent"] + old["reset"]
    verdict = "not reached: " + "; ".join(missed) if missed else "goals reached"
    figures = (f"longest outage {event['outage_ms']:.0f} ms, sessions lost {lost} of "
               f"{lost + old['survived']}; {verdict}")
    parts = [text(12, top + 16, f"{event['name']}: {event['about']}", "title"),
             text(12, top + 33, figures, "bad" if missed else "small")]
    for number, way in enumerate(event["ways"]):
        y = rows_top + number * ROW
        parts.append(text(LEFT - 8, y + 11, way["name"], "end"))
        parts += close.row(way, y) + whole.row(way, y)
    parts += moments(event, close, rows_top, rows_end) + moments(event, whole, rows_top, rows_end)
    letters = "abcdefghijklmnopqrstuvwxyz"
    notes = []
    # The same letters beside the timeline and in the line below it.
    for letter, (ms, what) in zip(letters, event["marks"]):
        parts += [line(whole.x(ms), rows_top - 2, rows_end, "#777", "1 2"),
                  text(whole.x(ms), rows_top - 4, letter, "mid small")]
        notes.append(f"{letter} {what} ({ms / 1000:.1f} s)")
    parts += close.axis(rows_end, 100, 1, "ms")
    parts += whole.axis(rows_end, 5000 if event["over_ms"] > 15000 else 1000, 1000, "s")
    lines = wrapped(notes)
    for number, words in enumerate(lines):
        parts.append(text(LEFT, rows_end + 32 + 14 * number, words, "small"))
    return parts, rows_end + FOOT + 14 * (len(lines) - 1) - top


def wrapped(notes, most=140):
    lines = [""]
    for note in notes:
        longer = f"{lines[-1]} · {note}" if lines[-1] else note
        if len(longer) > most:
            lines.append(note)
        else:
            lines[-1] = longer
    return lines


def moments(event, panel, top, end):
    known = {"event": 0, "noticed": event["detected_ms"], "routed": event["converged_ms"]}
    return [line(panel.x(ms), top - 2, end, MARKS[name], "" if name == "event" else "4 2")
            for name, ms in known.items() if panel.shows(ms)]


def legend(y):
    parts, x = [], 12
    for colour, words in [(FINE, "arrived"), (LATE, "answered after 50 ms and more"), (LOST, "lost")]:
        parts += [rect(x, y - 10, 12, 12, colour), text(x + 17, y, words, "small")]
        x += 34 + 6.2 * len(words)
    for name, words in [("event", "it happens"), ("noticed", "the first router notices"),
                        ("routed", "the last route has changed")]:
        dashes = "" if name == "event" else "4 2"
        parts += [line(x, y - 10, y + 2, MARKS[name], dashes), text(x + 6, y, words, "small")]
        x += 26 + 6.2 * len(words)
    return parts


def draw(figures):
    facts = (f"{cpu_model()}, {cpu_count()} CPUs for all of it, Linux {platform.release()}; krono "
             f"{revision()}, {time.strftime('%Y-%m-%d')}; {figures['nodes']} nodes, "
             f"{figures['sessions']} sessions, {figures['flows']} watched flows"
             + ("" if figures["twins"] else "; WITHOUT replication"))
    parts = [text(12, 24, "What live traffic notices of failures, drains and restarts", "head"),
             text(12, 42, facts, "small")] + legend(62)
    top = 76
    for event in figures["events"]:
        drawn, height = block(event, top)
        parts += drawn
        top += height + 14
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" '
            f'width="{WIDTH}" height="{top}">\n'
            '<style>text{font:12px sans-serif;fill:#222}.head{font-weight:bold;font-size:15px}'
            '.title{font-weight:bold}.small{font-size:11px;fill:#555}.bad{font-size:11px;fill:#b00}'
            '.end{text-anchor:end}.mid{text-anchor:middle}</style>\n'
            '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", help="what failover wrote")
    parser.add_argument("plot", help="the SVG to write")
    arguments = parser.parse_args()
    Path(arguments.plot).write_text(draw(json.loads(Path(arguments.figures).read_text())))


if __name__ == "__main__":
    main()
