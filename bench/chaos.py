"""Random faults around the real daemon; counts what went wrong with its events. The same seed gives the same faults.

usage: python bench/chaos.py SEED SECONDS [--faults disk,clock,…]

Runs the daemon on a small file system of its own, with a mosquitto, a proxy that records PUBLISH and PUBACK, and a
subscriber. One pipeline runs on the CPU, one on the tests' stand-in for the Edge TPU; every few frames is an event.
Faults: disk (full, read-only, damaged), clock (steps of years), broker (ended, stopped, killed), network (reset,
refused, silent), daemon (killed, ended, stopped), tpu (abort, hang), camera (pictures damaged or gone), commands.
Needs root, mosquitto and a C compiler. Exits 0 without a violation, 1 with one, 3 when it cannot be run.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "integration"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import paho.mqtt.client as paho
from broker_process import Broker, Proxy, Subscriber
from daemon_process import Daemon, write_config
from PIL import Image
from stand_in import Machine, build_delegate, find_compiler, model_pair

from edge_classifierd.events.schema import Event, decode
from edge_classifierd.state_file import replace_file

BASE: Final = "edge-classifierd/porch"
VIOLATIONS: Final = (
    "acknowledged and missing", "order", "seq twice", "seq jumps", "event_id runs backwards", "alternation", "active_s",
    "unexpected exit",
)  # fmt: skip


class Scene:
    """The daemon and everything around it; each method with the name of a fault's kind makes one and heals it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)  # noqa: S311 - the same faults again
        self.state = folder / "state"
        self.state.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(self.state)], check=True)
        self.broker = Broker(folder).start()
        self.subscriber, self.proxy = Subscriber(self.broker.port), Proxy(self.broker.port)
        self.commander = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.commander.connect_async("127.0.0.1", self.broker.port)
        self.commander.loop_start()
        self.machine, self.fault = Machine(folder / "root"), folder / "fault"
        self.machine.add("1-1")
        model_pair(folder)
        self.pictures = folder / "pictures"
        self.restore_pictures()
        library, times = str(build_delegate(folder)), {"deadline": "500ms", "load_deadline": "2s"}
        broken = {"while": str(self.fault), "mode": self.random.choice(["abort", "hang", "fail"])}
        cpu = {"path": f"{folder}/colours.tflite", "threads": 1}
        tpu = {"path": f"{folder}/colours_edgetpu.tflite", "cpu_model": cpu["path"], "threads": 1, "device": "usb:0"}
        watches = [{"name": name, "labels": [name], "threshold": 0.8, "release": 0.5} for name in ("red", "blue")]
        source = {"type": "folder", "path": str(self.pictures), "fps": 10, "loop": True}
        pipelines = [
            {"name": name, "model": model, "watches": watches, "source": source, "snapshot": {"enabled": False}}
            for name, model in (
                ("cpu", cpu),
                ("tpu", {**tpu, "edgetpu": {"library": library, "options": broken, **times}}),
            )
        ]
        self.config = write_config(folder / "c.yaml", self.proxy.port, *pipelines)
        source_code = Path(__file__).resolve().parents[1] / "tests" / "native" / "clock.c"
        subprocess.run([str(find_compiler()), "-shared", "-fPIC", "-o", f"{folder}/clock.so", source_code], check=True)
        self.offsets = {0}
        self.step_clock(0)
        self.broker_killed_s, self.losses_s = list[float](), list[float]()
        self.exits, self.damaged, self.healed_s = list[str](), False, 0.0
        self.daemon: Daemon | None = None

    def restore_pictures(self) -> None:
        shutil.rmtree(self.pictures, ignore_errors=True)
        self.pictures.mkdir()
        for number, colour in enumerate([(255, 0, 0)] * 3 + [(0, 0, 255)] * 3 + [(128, 128, 128)] * 2):
            Image.new("RGB", (8, 8), colour).save(self.pictures / f"{number}.png")

    def step_clock(self, seconds: int) -> None:
        replace_file(self.folder / "offset", str(seconds).encode(), durably=False)
        self.offsets.add(seconds)

    def start(self) -> None:
        environment = {"LD_PRELOAD": f"{self.folder}/clock.so", "CLOCK_OFFSET": f"{self.folder}/offset"}
        log = self.config.with_suffix(".log")
        self.log_start = len(log.read_text()) if log.exists() else 0
        self.daemon = Daemon(self.config, **environment, **self.machine.environment)

    def handles_signals(self) -> bool:  # until then each signal ends it
        return self.daemon is not None and ": running " in self.daemon.said[self.log_start :]

    def stop(self, number: signal.Signals, *, loses: bool = False) -> None:
        """End the daemon if it runs; `loses` when events that only memory holds go with it."""
        self.check_alive()
        if self.daemon is not None:
            allowed = {0} if self.handles_signals() else {0, -15}
            self.daemon.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.process.wait(15)
            code = self.daemon.process.poll()
            self.daemon.end(signal.SIGKILL)
            if number is signal.SIGTERM and code not in allowed:
                self.exits.append(f"exit code {code} within 15 s of SIGTERM")
            self.daemon = None
        if loses or (number is signal.SIGKILL and time.time() - self.healed_s < 5):  # the disk is tried every 2 s
            self.losses_s.append(time.time())

    def check_alive(self) -> None:
        """Start the daemon again, as systemd would, when it has ended by itself."""
        if self.daemon is not None and self.daemon.process.poll() is not None:
            self.exits.append(f"exit code {self.daemon.process.returncode}: {self.daemon.said[-300:]!r}")
            self.start()

    def wait(self, low: float, high: float) -> None:
        time.sleep(self.random.uniform(low, high))

    def disk(self) -> None:
        what, number = self.random.choice(["full", "read-only", "damaged"]), self.random.choice([15, 9])
        if what == "damaged":
            self.damage(signal.Signals(number))
            return
        filler, restarts = self.state / "filler", self.random.choice([0, 1, 2])
        if what == "full":
            subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], capture_output=True, check=False)
        else:  # refused while a file is open for writing
            self.stop(signal.Signals(number))
            subprocess.run(["mount", "-o", "remount,ro", str(self.state)], check=True)
            self.start()
        self.wait(0.5, 4)
        for _ in range(restarts):
            self.stop(signal.Signals(number), loses=True)
            self.start()
            self.wait(1.5, 4)
        subprocess.run(["mount", "-o", "remount,rw", str(self.state)], check=True)
        filler.unlink(missing_ok=True)
        self.healed_s = time.time()

    def damage(self, number: signal.Signals) -> None:
        """Overwrite a part of the database; an open one may notice at the next start only."""
        if self.random.random() < 0.5:
            self.stop(number)
        file = self.state / self.random.choice(["outbox.sqlite3", "outbox.sqlite3-wal"])
        if file.exists() and file.stat().st_size:
            with file.open("r+b") as opened:
                opened.seek(self.random.randrange(file.stat().st_size))
                opened.write(self.random.randbytes(64))
        self.losses_s.append(time.time())
        self.damaged = True  # a row that waits may be lost
        self.wait(0, 2)
        self.stop(signal.SIGKILL, loses=True)
        self.start()

    def clock(self) -> None:
        self.step_clock(self.random.choice([-3650, -1, 0, 1, 3650]) * 86400)
        if self.random.random() < 0.5:
            self.daemon_killed()

    def broker_stopped(self) -> None:
        """Ended, killed or stopped for a while."""
        what, process = self.random.choice(["end", "kill", "freeze"]), self.broker.process
        if what == "freeze" and process is not None:
            process.send_signal(signal.SIGSTOP)
            self.wait(0.5, 4)
            process.send_signal(signal.SIGCONT)
            return
        if what == "kill":
            self.broker_killed_s.append(time.monotonic())
        self.broker.kill() if what == "kill" else self.broker.stop()
        self.wait(0.5, 4)
        self.broker.start()

    def network(self) -> None:
        what = self.random.choice(["reset", "refuse", "swallow"])
        self.proxy.admitting = what != "refuse"
        self.proxy.cut("swallow" if what == "swallow" else "reset")
        self.wait(0.5, 5)
        self.proxy.admitting = True
        self.proxy.cut("reset")

    def daemon_killed(self) -> None:
        number = self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGHUP])
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self.stop(number)
            self.wait(0, 0.5)
            self.start()
        elif self.daemon is not None and self.handles_signals():
            self.daemon.process.send_signal(number)
            self.wait(0.2, 2)
            self.daemon.process.send_signal(signal.SIGCONT)

    def tpu(self) -> None:
        self.fault.touch()
        self.wait(0.5, 3)
        self.fault.unlink()

    def camera(self) -> None:
        if self.random.random() < 0.5:
            (self.pictures / f"{self.random.randrange(8)}.png").write_bytes(self.random.randbytes(200))
        else:
            shutil.rmtree(self.pictures)
        self.wait(0.5, 2)
        self.restore_pictures()

    def commands(self) -> None:
        pipeline = self.random.choice(["cpu", "tpu"])
        for _ in range(self.random.choice([1, 1, 50])):
            topic, payload = self.random.choice(
                [("enabled", "OFF"), ("enabled", "ON"), ("red/threshold", f"{self.random.uniform(0.5, 0.9)}"),
                 ("red/threshold", "RESET"), ("snapshot", "PRESS"), ("blue/threshold", "many")]
            )  # fmt: skip
            self.commander.publish(f"{BASE}/{pipeline}/{topic}/set", payload, qos=0)
        self.wait(0.2, 1)
        for one in ("cpu", "tpu"):
            self.commander.publish(f"{BASE}/{one}/enabled/set", "ON", qos=1)

    def run(self, seconds: float, kinds: list[str]) -> None:
        """Make one fault after the other; then let everything recover and end the daemon."""
        self.start()
        self.wait(2, 3)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            kind = self.random.choice(kinds)
            getattr(self, {"broker": "broker_stopped", "daemon": "daemon_killed"}.get(kind, kind))()
            self.check_alive()
            self.wait(0.1, 1.5)
        self.wait(5, 5)  # a failed disk is tried again after 2 s
        self.stop(signal.SIGTERM)
        shutil.rmtree(self.pictures)  # no event but those that wait
        self.start()
        self.wait(10, 10)
        self.stop(signal.SIGTERM)

    def close(self) -> None:
        self.commander.loop_stop()
        self.subscriber.close()
        self.proxy.close()
        self.broker.kill()
        self.stop(signal.SIGKILL)
        subprocess.run(["umount", "-l", str(self.state)], check=False)


class Check:
    """Finds what must not have happened; leaves out what a damaged disk, or a crash while it is broken, may lose."""

    def __init__(self, scene: Scene, started_s: float) -> None:
        self._scene, self._started_s = scene, started_s
        self.arrived: dict[str, Event] = {}
        for topic, payload, _ in scene.subscriber.messages:
            if topic.endswith("/event"):
                event = decode(payload)
                self.arrived.setdefault(event.event_id, event)
        self.numbered = sorted((one for one in self.arrived.values() if one.seq), key=lambda one: one.seq or 0)
        self._seqs = {one.seq for one in self.numbered}
        self.found: list[tuple[str, str]] = [("unexpected exit", one) for one in scene.exits]
        self._check_delivery()
        self._check_numbers()
        self._check_watches()

    def _true_s(self, event: Event) -> float:
        """Return when the event was made, without the steps of the daemon's clock."""
        times = [event.time.timestamp() - offset for offset in self._scene.offsets]
        return next((one for one in times if self._started_s - 5 < one < time.time() + 5), 0.0)

    def _lost_between(self, first: Event, second: Event) -> bool:
        lost = any(self._true_s(first) - 2 < one < self._true_s(second) + 2 for one in self._scene.losses_s)
        return lost or (self._scene.damaged and self._missing(first, second))

    def _missing(self, before: Event, event: Event) -> bool:  # an event between two
        return any(seq not in self._seqs for seq in range((before.seq or 0) + 1, event.seq or 0))

    def _check_delivery(self) -> None:
        for event_id, at_s in self._scene.proxy.acknowledged_s.items():
            if event_id not in self.arrived and not any(-1 < s - at_s < 3 for s in self._scene.broker_killed_s):
                self.found.append(("acknowledged and missing", event_id))
        last: dict[str, Event] = {}
        for event in self.arrived.values():
            before = last.get(event.pipeline)
            if before is not None and self._true_s(before) > self._true_s(event) + 0.01:
                self.found.append(("order", f"{event.pipeline}: {event.seq} after {before.seq}"))
            last[event.pipeline] = event

    def _check_numbers(self) -> None:
        for before, event in itertools.pairwise(self.numbered):
            if before.seq == event.seq:
                self.found.append(("seq twice", f"{event.seq}"))
            elif self._missing(before, event) and not self._scene.damaged and not self._scene.broker_killed_s:
                self.found.append(("seq jumps", f"{before.seq} {event.seq}"))
            if before.event_id > event.event_id:
                self.found.append(("event_id runs backwards", f"{before.seq} {event.seq}"))

    def _check_watches(self) -> None:
        last: dict[tuple[str, str], Event] = {}
        for event in sorted(self.arrived.values(), key=lambda one: (self._true_s(one), one.type == "detected")):
            watch = (event.pipeline, event.watch)
            before = last.get(watch)
            last[watch] = event
            if before is None or self._lost_between(before, event):
                continue
            if before.type is event.type:
                self.found.append(("alternation", f"{watch} {event.type.value} {before.seq} {event.seq}"))
            elif event.type == "cleared":
                lasted_s = self._true_s(event) - self._true_s(before)
                if event.active_s is None or abs(event.active_s - lasted_s) > 2:
                    self.found.append(("active_s", f"{watch} {event.seq}: {event.active_s} s, really {lasted_s:.1f} s"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--faults", default="disk,clock,broker,network,daemon,tpu,camera,commands")
    options = parser.parse_args()
    if os.geteuid() or find_compiler() is None or not shutil.which("mosquitto", path="/usr/sbin:/usr/bin"):
        print("needs root, mosquitto and a C compiler", file=sys.stderr)
        return 3
    folder, started_s = Path(tempfile.mkdtemp(prefix="chaos-")), time.time()
    scene = Scene(folder, options.seed)
    try:
        scene.run(options.seconds, options.faults.split(","))
        check = Check(scene, started_s)
    finally:
        scene.close()
    counts = {"events": len(check.arrived), "numbered": len(check.numbered)}
    counts |= {kind: sum(one == kind for one, _ in check.found) for kind in VIOLATIONS}
    print(f"seed {options.seed}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for kind, what in check.found[:20]:
        print(f"  {kind}: {what}; logs: {folder}")
    if not check.found:
        shutil.rmtree(folder)
    return int(bool(check.found))


if __name__ == "__main__":
    sys.exit(main())
