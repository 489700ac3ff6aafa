"""What a training takes: its memory and time, and what is left for the cameras beside it.

    .venv/bin/python bench/training.py [--pictures 1000] [--no-cameras] [--seconds 60]

Trains drawn pictures of three classes in the real child process, alone and beside a real daemon: once with a camera of
10 pictures a second, once with as many as the classifier takes. A broker is not needed. The camera is a folder, which
waits where a camera would drop pictures; so what is lost shows as a lower rate. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration"), str(ROOT / "tests/unit/teaching/training")]

from daemon_process import Daemon, a_pipeline, photographs, write_config  # noqa: E402 - found only now
from training_scene import MODEL, pictures  # noqa: E402

from edge_classifierd.clock import SystemClock  # noqa: E402
from edge_classifierd.teaching.training.trainer import Trainer  # noqa: E402
from edge_classifierd.teaching.training.versions import Versions  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.teaching.records import TrainingPictures

_CAMERAS = {"10 a second": 10.0, "saturated": 1000.0}


class Watched:
    """A training and the peak of its child's memory."""

    def __init__(self, state: Path, drawn: TrainingPictures) -> None:
        self.trainer = Trainer(Versions(state), SystemClock(), available=lambda: None)
        self.peak_mb = 0.0
        self.began_s = time.monotonic()
        self.trainer.start(drawn)

    def runs(self) -> bool:
        """Look once; return whether it still runs."""
        child = self.trainer._child
        if child is not None:
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                status = ""
            peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
            self.peak_mb = max(self.peak_mb, int(peak) * 1024 / 1e6)
        state = self.trainer.state()
        return state is None or state.runs

    def result(self) -> str:
        state = self.trainer.state()
        assert state is not None
        how = state.stage if state.failure is None else state.failure
        return f"{how} after {time.monotonic() - self.began_s:5.1f} s, at most {self.peak_mb:.0f} MB"


def alone(state: Path, drawn: TrainingPictures) -> None:
    watched = Watched(state, drawn)
    while watched.runs():
        time.sleep(0.05)
    learnt = sum(len(one.learn) for one in drawn.classes)
    every = learnt + sum(len(one.held_out) for one in drawn.classes)
    print(f"{every} pictures, {learnt} learnt from, alone: {watched.result()}")
    for result in Versions(state).results(MODEL)[:1]:
        print(f"  {result.sentences[0] if result.sentences else ''}")


@contextmanager
def daemon(folder: Path, fps: float) -> Iterator[Path]:
    """A daemon with one pipeline; yields its health document. There is nothing at its broker's port."""
    folder.mkdir(exist_ok=True)
    source = {"type": "folder", "path": str(photographs(folder / "photos", "cat", "coffee")), "fps": fps, "loop": True}
    pipeline = a_pipeline(folder, source=source, model={"threads": 2})
    with Daemon(write_config(folder / "config.yaml", 1, pipeline), RUNTIME_DIRECTORY=str(folder)) as running:
        yield folder / "health.json"
        running.end()


def inferences(metrics: Path) -> tuple[float, int]:
    """Return the time of the newest health document, seconds, and the number of inferences until then."""
    while True:
        try:
            document = json.loads(metrics.read_text())
            return document["uptime_s"], document["pipelines"]["driveway"]["inferences"]
        except (OSError, ValueError, KeyError):
            time.sleep(0.2)


def rate(health: Path, seconds: float, watched: Watched | None = None) -> float:
    """Return the frames a second over `seconds` or the rest of a training; health is written every 30 s."""
    (began_s, before), until_s = inferences(health), time.monotonic() + seconds
    (ended_s, after) = began_s, before
    while time.monotonic() < until_s and (watched is None or watched.runs()):
        time.sleep(0.2)
        ended_s, after = inferences(health)
    return (after - before) / max(ended_s - began_s, 1e-9)


def beside(folder: Path, name: str, fps: float, drawn: TrainingPictures, seconds: float) -> None:
    with daemon(folder, fps) as health:
        before = rate(health, seconds + 30)
        watched = Watched(folder / "training", drawn)
        time.sleep(2)
        during = rate(health, 10 * seconds, watched)
        kept = f"({during / max(before, 1e-9):.1%})"
        print(f"{name}: {before:.1f} frames a second; beside a training {during:.1f} {kept}")
        print(f"  the training of {sum(len(one.learn) for one in drawn.classes)} pictures: {watched.result()}")
        watched.trainer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--no-cameras", action="store_true", help="measure memory and time only")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone(folder, pictures(folder, -(-given.pictures // 3)))
        for number, (camera, fps) in enumerate(() if given.no_cameras else _CAMERAS.items()):
            state = folder / f"daemon-{number}"
            beside(state, camera, fps, pictures(state / "training", 60), given.seconds)


if __name__ == "__main__":
    main()
