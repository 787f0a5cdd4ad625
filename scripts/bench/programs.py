"""The programs under test, each started on the replay device with one worker on one CPU:
dpdk-testpmd, kronod and Open vSwitch with DPDK. All of them are used alike:

    with Kronod(place, case) as program:
        ... measure place.control ...
        program.problems(summary)
"""
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from measure import Control, Failed, wait_until

CONTROL_CPU, WORKER_CPU = 0, 1
START_TIMEOUT = 60.0
OVS_VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
POOL = "203.0.113.0/26"
POOL_OVS = "203.0.113.0-203.0.113.63:1024-65535"


class Place:
    """Where a run has its files, and where the repository's programs are."""

    def __init__(self, directory, preload, binaries):
        self.directory, self.preload, self.binaries = Path(directory), preload, Path(binaries)

    @property
    def control(self):
        return str(self.directory / "control")

    def log(self, name):
        return self.directory / f"{name}.log"


def memory_of(process):
    """What a process has of memory, bytes: its own pages and huge ones."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) << 10 for name in ("RssAnon", "HugetlbPages"))


class Program:
    """A program that is measured, mostly with the replay device in it; ends with its `with`."""

    name = None
    # Tried in turn, five seconds each.
    stop_signals = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)

    def __init__(self, place, case):
        self.place, self.case, self.processes = place, case, []
        self.start_s = None

    def __enter__(self):
        Path(self.place.control).unlink(missing_ok=True)
        try:
            started = time.monotonic()
            self.start()
            self.start_s = time.monotonic() - started
            self.settle()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def device(self):
        """What has the program's ports be those of the workload."""
        return {"LD_PRELOAD": self.place.preload, "KRONO_REPLAY_CTL": self.place.control,
                "KRONO_REPLAY_0": self.case.port0, "KRONO_REPLAY_1": self.case.port1}

    def spawn(self, command, device=None, name=None, **more):
        """In the background and a session of its own: Ctrl-C is for us, who stop it then."""
        environment = os.environ | (device or {})
        with open(self.place.log(name or Path(command[0]).name), "wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log,
                                       start_new_session=True,
                                       **({"stdin": subprocess.DEVNULL} | more))
        self.processes.append(process)
        return process

    def wait_for(self, holds, what):
        def holds_or_ended():
            for process in self.processes:
                if process.poll() is not None:
                    raise Failed(f"{process.args[0]} ended: {self.last_words(process)}")
            return holds()
        wait_until(holds_or_ended, START_TIMEOUT, f"{self.name}: {what}")

    def last_words(self, process):
        text = self.place.log(Path(process.args[0]).name).read_text(errors="replace")
        return " | ".join(text.strip().splitlines()[-3:])

    def has_device(self):
        try:
            return Control(self.place.control).is_ready()
        except (OSError, ValueError, Failed):
            return False

    def settle(self):
        """What is left to wait for until the worker polls; not part of the start."""

    def problems(self, summary):
        return []

    def stop(self):
        while self.processes:
            process = self.processes.pop()
            for number in self.stop_signals:
                if process.poll() is None:
                    process.send_signal(number)
                try:
                    process.wait(timeout=5)
                    break
                except subprocess.TimeoutExpired:
                    continue


def testpmd(mode, devices, *more):
    """The command: one worker, huge pages."""
    vdevs = [word for device in devices for word in ("--vdev", device)]
    return ["dpdk-testpmd", "-l", f"{CONTROL_CPU},{WORKER_CPU}", "--main-lcore", str(CONTROL_CPU),
            "--no-pci", "--in-memory", "--no-telemetry", "-m", "256", "--iova-mode=va", *vdevs,
            "--", "--total-num-mbufs=16384", "--mbcache=256", f"--forward-mode={mode}",
            "--nb-cores=1", "--burst=32", "--rxd=512", "--txd=512", "--no-flush-rx", *more]


class Testpmd(Program):
    """Swaps MAC addresses and sends: what the device and DPDK cost without any NAT."""

    name = "testpmd"

    def start(self):
        command = testpmd("macswap", ["net_null0", "net_null1"], "--auto-start",
                          "--stats-period=0")
        # It forwards until its input says something.
        self.spawn(command, self.device(), stdin=subprocess.PIPE)
        self.wait_for(self.has_device, "has not started its ports")

    def settle(self):
        time.sleep(0.3)


KRONOD_CONFIG = """\
eal: {{ memory: 256M, hugepages: required, lcores: "0@{cpu}" }}
ports:
  - {{ name: access, device: net_null0 }}
  - {{ name: core, device: net_null1 }}
shards:
  - id: 0
    lcore: 0
    inside:
      port: access
      address: 10.0.0.{node}/24
      mac: "02:00:00:00:{mac}:01"
      routes: [ {{ prefix: 100.64.0.0/10, via: 10.0.0.254 }} ]
      neighbours: [ {{ address: 10.0.0.254, mac: "02:00:00:00:00:fe" }} ]
    outside:
      port: core
      address: 192.0.2.{node}/24
      mac: "02:00:00:00:{mac}:02"
      routes: [ {{ prefix: 0.0.0.0/0, via: 192.0.2.254 }} ]
      neighbours: [ {{ address: 192.0.2.254, mac: "02:00:00:00:00:fd" }}{neighbour} ]
    nat: {{ pool: [ {pool} ] }}
{twin}nat:
  sessions: {sessions}
  timeouts: {{ {timeouts} }}
firewall:
  inbound: allow
  rules: [{rules}]
control: {{ socket: {socket} }}
metrics: {{ listen: "127.0.0.1:0" }}
{cluster}"""


class Kronod(Program):
    name = "krono"

    def start(self):
        self.start_kronod("kronod", self.configuration(WORKER_CPU), self.device())

    def start_kronod(self, name, configuration, device):
        config = self.place.directory / f"{name}.yaml"
        config.write_text(configuration)
        self.spawn([str(self.place.binaries / "kronod"), "--config", str(config)], device, name)
        log = self.place.log(name)
        self.wait_for(lambda: "kronod ready" in log.read_text(errors="replace"), "is not ready")

    def configuration(self, cpu, socket=None, twin="", cluster="", neighbour="", node=1):
        settings = {"sessions": 1_300_000, "pool": POOL, "timeouts": {"udp": "5m"},
                    "rules": 0} | self.case.kronod
        timeouts = ", ".join(f"{name}: {span}" for name, span in settings["timeouts"].items())
        return KRONOD_CONFIG.format(
            cpu=cpu, pool=settings["pool"], sessions=settings["sessions"], timeouts=timeouts,
            rules=rules(settings["rules"]), socket=socket or self.socket(), twin=twin,
            cluster=cluster, neighbour=neighbour, node=node, mac="00" if node == 1 else "02")

    def socket(self):
        return self.place.directory / "kronod.sock"

    def memory(self):
        return memory_of(self.processes[0])

    def stats(self):
        return self.ask("stats")["shards"][0]

    def ask(self, question):
        answer = subprocess.run([str(self.place.binaries / "kronoctl"), "--socket",
                                 str(self.socket()), "--json", question],
                                capture_output=True, text=True, timeout=10)
        if answer.returncode:
            raise Failed(f"kronoctl: {answer.stderr.strip()}")
        return json.loads(answer.stdout)

    def problems(self, summary):
        """Frames that krono does not account for, or not as the device does; unexpected drops."""
        shard = self.stats()
        drops = {name: count for name, count in shard["drops"].items() if count}
        summary["kronod"] = shard
        found = []
        rest = shard["sent"] + shard["consumed"] + shard["held"] + sum(drops.values())
        if shard["received"] != rest:
            found.append(f"krono received {shard['received']}, and accounts for {rest}")
        # A half goes on talking to its twin, so the device is asked before and after.
        control = Control(self.place.control)
        for figure in ("rx", "tx"):
            before = sum(port[figure] for port in summary["ports"])
            after = sum(control.figure(port, figure) for port in (0, 1))
            krono = sum(shard[side][f"{figure}_packets"] for side in ("inside", "outside"))
            if not before <= krono <= after:
                found.append(f"{figure}: {krono} frames, but {after} as the device counts")
        if drops and not self.case.may_drop:
            found.append(f"drops: {drops}")
        return found


class KronodPair(Kronod):
    """krono with a twin, another kronod on the control CPU, on a cable of its own."""

    CLUSTER = """\
cluster: {{ node: {node}, key: {key}, heartbeat: 10ms, silence: 2s }}
"""
    NEIGHBOUR = ', {{ address: 192.0.2.{peer}, mac: "02:00:00:00:{mac}:02" }}'
    TWIN = "    twin: {{ master: 1, slave: 2, peer: 192.0.2.{peer} }}\n"

    def start(self):
        for file in ("cable", "key"):
            (self.place.directory / file).unlink(missing_ok=True)
        key = self.place.directory / "key"
        key.touch(mode=0o600)
        key.write_text("5e" * 32)
        self.start_kronod("kronod", self.half(1, WORKER_CPU, self.socket()),
                          self.device() | {"KRONO_REPLAY_1": self.cable(0)})
        self.start_twin()

    def start_twin(self):
        device = self.device() | {
            "KRONO_REPLAY_CTL": self.place.control + "-twin", "KRONO_REPLAY_0": "sink",
            "KRONO_REPLAY_1": self.cable(1)}
        socket = self.place.directory / "kronod-twin.sock"
        self.start_kronod("kronod-twin", self.half(2, CONTROL_CPU, socket), device)

    def settle(self):
        self.wait_for(self.is_safe, "its twin does not catch up")

    def is_safe(self):
        half = self.ask("cluster")["halves"][0]
        return half["role"] == "serving" and half["safe"]

    def half(self, node, cpu, socket):
        peer = 3 - node
        values = {"node": node, "peer": peer, "mac": "00" if peer == 1 else "02",
                  "key": self.place.directory / "key"}
        return self.configuration(
            cpu, socket, node=node, twin=self.TWIN.format(**values),
            cluster=self.CLUSTER.format(**values), neighbour=self.NEIGHBOUR.format(**values))

    def cable(self, end):
        return f"cable={self.place.directory / 'cable'},end={end}"

    def problems(self, summary):
        half = self.ask("cluster")["halves"][0]
        summary["half"] = half
        lost = half["overflowed"]
        return super().problems(summary) + ([f"{lost} changes found no room"] if lost else [])


class LateTwin(KronodPair):
    """The same, whose twin starts when it is told to."""

    def start(self):
        self.start_late, self.start_twin = self.start_twin, lambda: None
        super().start()
        self.control("shard", "fence", "0")

    def settle(self):
        self.wait_for(lambda: self.ask("cluster")["halves"][0]["role"] == "serving",
                      "does not serve")

    def control(self, *words):
        command = [str(self.place.binaries / "kronoctl"), "--socket", str(self.socket()), *words]
        self.wait_for(lambda: subprocess.run(command, capture_output=True).returncode == 0,
                      " ".join(words))

    def catch_up(self):
        """Starts the twin; how long it takes from its first poll until it may take over, s."""
        self.start_late()
        started = time.monotonic()
        self.settle = super().settle
        self.settle()
        return time.monotonic() - started


def rules(count):
    """Rules that forbid what nobody in the workloads does."""
    lines = [f'\n    - {{ action: drop, direction: out, protocol: udp, from: any, '
             f'to: 192.0.2.{number % 200 + 1}/32, port: {2000 + number} }}'
             for number in range(count)]
    return ",".join(lines).replace("\n    - ", "\n    ") + ("\n  " if lines else "")


OVS_NAT = f"nat(src={POOL_OVS})"
OVS_FLOWS = f"""\
table=0,priority=100,ip,ct_state=-trk,in_port=1,actions=ct(table=1,zone=1,nat)
table=0,priority=100,ip,ct_state=-trk,in_port=2,actions=ct(table=1,zone=1,nat)
table=1,priority=100,ip,in_port=1,ct_state=+trk+new,actions=ct(commit,zone=1,{OVS_NAT}),output:2
table=1,priority=100,ip,in_port=1,ct_state=+trk+est,actions=output:2
table=1,priority=100,ip,in_port=2,ct_state=+trk+est,actions=output:1
"""


class Ovs(Program):
    """Connection tracking with source NAT, and nothing else: no routing, no MAC addresses."""

    name = "OVS-DPDK"
    # It takes long to end by itself, and has nothing outside its directory that would be left.
    stop_signals = (signal.SIGKILL,)
    CONNECTIONS_MAX = 3_000_000

    def start(self):
        self.run = self.place.directory / "ovs"
        self.run.mkdir(exist_ok=True)
        for file in self.run.iterdir():
            file.unlink()
        # Tools and daemons look for everything below this directory, and touch no other OVS.
        for variable in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"):
            os.environ[variable] = str(self.run)
        self.start_database()
        self.start_switch()
        self.add_ports()
        self.wait_for(self.has_device, "has not started its ports")

    def start_database(self):
        database = self.run / "conf.db"
        self.tool("ovsdb-tool", "create", str(database), OVS_SCHEMA)
        self.spawn(["ovsdb-server", str(database), f"--remote=punix:{self.run}/db.sock",
                    f"--unixctl={self.run}/db.ctl"])
        self.wait_for((self.run / "db.sock").exists, "its database does not listen")
        self.vsctl("--no-wait", "init")
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
                   "other_config:dpdk-socket-mem=1024",
                   f"other_config:dpdk-lcore-mask={1 << CONTROL_CPU:#x}",
                   f"other_config:pmd-cpu-mask={1 << WORKER_CPU:#x}",
                   "other_config:dpdk-extra=--no-pci --iova-mode=va --in-memory --no-telemetry",
                   "other_config:max-idle=60000")

    def start_switch(self):
        self.spawn([OVS_VSWITCHD, f"unix:{self.run}/db.sock", f"--unixctl={self.run}/switch.ctl"],
                   self.device())
        self.wait_for((self.run / "switch.ctl").exists, "does not listen")
        self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
                   "protocols=OpenFlow13")
        flows = self.run / "flows"
        flows.write_text(OVS_FLOWS)
        bridge = f"{self.run}/br0.mgmt"
        self.tool("ovs-ofctl", "-O", "OpenFlow13", "del-flows", bridge)
        self.tool("ovs-ofctl", "-O", "OpenFlow13", "add-flows", bridge, str(flows))

    def add_ports(self):
        for number in (0, 1):
            self.vsctl("add-port", "br0", f"p{number}", "--", "set", "interface", f"p{number}",
                       "type=dpdk", f"ofport_request={number + 1}", "options:n_rxq_desc=512",
                       f"options:dpdk-devargs=net_null{number}")
        self.tool("ovs-appctl", "-t", f"{self.run}/switch.ctl", "dpctl/ct-set-maxconns",
                  str(self.CONNECTIONS_MAX))

    def settle(self):
        time.sleep(1)  # until its threads have got the ports

    def vsctl(self, *arguments):
        self.tool("ovs-vsctl", "--timeout=20", f"--db=unix:{self.run}/db.sock", *arguments)

    def tool(self, *command):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if answer.returncode:
            raise Failed(f"{' '.join(command[:3])} …: {answer.stderr.strip()}")
