#!/usr/bin/env python3
"""Measures a program that runs on the replay device, and prints one JSON object.

    measure.py CONTROL [--warm PASSES] [--warm-seconds S] [--segments N] [--seconds S]
                       [--passes N] [--timeout S]

CONTROL is the file that KRONO_REPLAY_CTL names. Starts the device, waits until the workload was
sent some times from end to end, then measures N segments of S seconds and stops the device. With
--passes it stops after so many passes in all, without segments: the first pass, or those that fill
a table. The program under test is not asked anything: all figures are the device's own.
"""
import argparse
import json
import mmap
import statistics
import struct
import sys
import time

# The layout is replay.h's.
MAGIC = 0x6B726F6E6F2D3031
HEADER = ["magic", "tsc_hz", "run", "stop_after", "marks_wanted", "marks"]
FIGURES = ["ready", "rx", "tx", "rx_bytes", "tx_bytes", "rx_flood", "tx_flood", "no_mbuf", "passes",
           "fresh", "unreflected", "bad_checksums", "build_ns", "first_tsc", "cable_tx",
           "cable_tx_bytes"]
SNAPSHOT = ["tsc", "rx0", "rx1", "tx0", "tx1", "tx0_flood", "tx1_flood", "fresh"]
LINES_AT_START, WORD, PASSES_MAX, MARKS_MAX = 16, 8, 4096, 64
PASSES_AT = 3 * LINES_AT_START * WORD
MARKS_AT = PASSES_AT + PASSES_MAX * len(SNAPSHOT) * WORD


class Failed(Exception):
    """A sentence about what did not happen."""


class Control:
    """The control and figures page of the device."""

    def __init__(self, path):
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 0)
        if self["magic"] != MAGIC:
            raise Failed(f"{path} is not a page of the replay device")

    def word(self, at):
        return struct.unpack_from("<Q", self.page, at)[0]

    def __getitem__(self, name):
        return self.word(WORD * HEADER.index(name))

    def __setitem__(self, name, value):
        struct.pack_into("<Q", self.page, WORD * HEADER.index(name), value)

    def figure(self, port, name):
        return self.word(WORD * (LINES_AT_START * (1 + port) + FIGURES.index(name)))

    def figures(self, port):
        return {name: self.figure(port, name) for name in FIGURES}

    def snapshot(self, start, number):
        values = struct.unpack_from("<8Q", self.page, start + number * len(SNAPSHOT) * WORD)
        return dict(zip(SNAPSHOT, values))

    def end_of_pass(self, number):
        return self.snapshot(PASSES_AT, number)

    def mark(self, timeout=5.0):
        """A snapshot that the device takes at its next poll."""
        number = self["marks"]
        if number >= MARKS_MAX:
            raise Failed(f"the device keeps {MARKS_MAX} marks")
        self["marks_wanted"] = number + 1
        wait_until(lambda: self["marks"] > number, timeout, "the program does not poll the device")
        return self.snapshot(MARKS_AT, number)

    def is_ready(self):
        return all(self.figure(port, "ready") for port in (0, 1))


def wait_until(holds, timeout, otherwise):
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{otherwise} within {timeout:g} s")
        time.sleep(0.005)


def between(a, b, hz):
    """The rates of a segment, from the snapshots at its ends; millions a second."""
    seconds = (b["tsc"] - a["tsc"]) / hz
    change = {name: b[name] - a[name] for name in SNAPSHOT}
    received = change["rx0"] + change["rx1"]
    flood = change["tx0_flood"] + change["tx1_flood"]
    sent = change["tx0"] + change["tx1"]
    return {
        "seconds": seconds,
        "rx_mpps": received / seconds / 1e6,
        "tx_mpps": sent / seconds / 1e6,
        "out_mpps": change["tx1"] / seconds / 1e6,
        "in_mpps": change["tx0"] / seconds / 1e6,
        "established_mpps": (sent - flood - change["fresh"]) / seconds / 1e6,
        "flood_mpps": flood / seconds / 1e6,
        "fresh_mps": change["fresh"] / seconds / 1e6,
        "cycles_per_packet": hz * seconds / received if received else None,
    }


def passes(control):
    """Each of the first passes: its packets, and how fast they were taken."""
    found, hz = [], control["tsc_hz"]
    before = {name: 0 for name in SNAPSHOT} | {"tsc": control.figure(0, "first_tsc")}
    for number in range(min(control.figure(0, "passes"), 3)):
        end = control.end_of_pass(number)
        seconds, packets = (end["tsc"] - before["tsc"]) / hz, end["rx0"] - before["rx0"]
        found.append({"packets": packets, "sent": end["tx1"] - before["tx1"], "seconds": seconds,
                      "mpps": packets / seconds / 1e6})
        before = end
    return found


def start(control, stop_after=0):
    control["stop_after"] = stop_after
    control["run"] = 1


def run_passes(control, count, timeout):
    """Until so many passes were sent in all; then the device is quiet."""
    start(control, stop_after=count)
    wait_until(lambda: not control["run"], timeout, f"the device did not send {count} passes")
    time.sleep(0.05)  # what is on its way is sent


def run_segments(control, warm, warm_seconds, segments, seconds, timeout):
    start(control)
    earliest = time.monotonic() + warm_seconds
    wait_until(lambda: control.figure(0, "passes") >= warm and time.monotonic() > earliest,
               timeout, f"the device did not send {warm} passes")
    marks = [control.mark()]
    for _ in range(segments):
        time.sleep(seconds)
        marks.append(control.mark())
    control["run"] = 0
    time.sleep(0.05)
    return [between(a, b, control["tsc_hz"]) for a, b in zip(marks, marks[1:])]


def medians(segments):
    return {name: statistics.median(segment[name] for segment in segments)
            for name in segments[0] if segments[0][name] is not None}


def summary(control, segments):
    result = {"tsc_hz": control["tsc_hz"], "passes": passes(control),
              "build_s": sum(control.figure(port, "build_ns") for port in (0, 1)) / 1e9,
              "ports": [control.figures(port) for port in (0, 1)], "segments": segments}
    if segments:
        result["median"] = medians(segments)
    return result


def measure(path, warm=3, warm_seconds=0.0, segments=5, seconds=0.5, only_passes=0, timeout=60.0):
    control = Control(path)
    if only_passes:
        run_passes(control, only_passes, timeout)
        return summary(control, [])
    return summary(control, run_segments(control, warm, warm_seconds, segments, seconds, timeout))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("control")
    parser.add_argument("--warm", type=int, default=3, help="passes before the first segment")
    parser.add_argument("--warm-seconds", type=float, default=0.0, help="likewise, at least")
    parser.add_argument("--segments", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each segment")
    parser.add_argument("--passes", type=int, default=0, help="stop after so many in all")
    parser.add_argument("--timeout", type=float, default=60.0, help="for the passes, seconds")
    a = parser.parse_args()
    try:
        print(json.dumps(measure(a.control, a.warm, a.warm_seconds, a.segments, a.seconds,
                                 a.passes, a.timeout)))
    except (Failed, OSError) as error:
        sys.exit(f"measure.py: {error}")


if __name__ == "__main__":
    main()
