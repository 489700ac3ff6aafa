"""The real daemon as a child process, on a folder of the bundled photographs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import yaml

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = ROOT / "edge_classifierd" / "demo_photos"
CAT = {"name": "cat", "labels": ["*cat*"], "threshold": 0.5, "release": 0.3}


def photographs(folder: Path, *names: str) -> Path:
    """A folder with copies of the named photographs, in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        shutil.copy(PHOTOS / f"{name}.jpg", folder / f"{number:03}-{name}.jpg")
    return folder


def write_config(file: Path, port: int, *pipelines: dict[str, Any], **sections: Any) -> Path:
    """A configuration for the device `porch` on a broker of this machine."""
    document = {
        "device": {"id": "porch"},
        "mqtt": {"host": "127.0.0.1", "port": port},
        "pipelines": list(pipelines),
        **sections,
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def a_pipeline(folder: Path, *watches: dict[str, Any], name: str = "driveway", **keys: Any) -> dict[str, Any]:
    """A pipeline over a folder, 5 pictures a second, again and again."""
    keys.setdefault("source", {"type": "folder", "path": str(folder), "fps": 5, "loop": True})
    return {"name": name, "model": {"threads": 1}, "watches": list(watches), **keys}


class Daemon:
    """`edge-classifierd run`, started at once; its log is kept in a file."""

    def __init__(self, config: Path, *arguments: str, **environment: str) -> None:
        self.log = config.with_suffix(".log")
        self.state = config.parent / "state"
        self._file = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_classifierd", "run", "--config", str(config), *arguments],
            stdout=self._file,
            stderr=self._file,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "EDGE_CLASSIFIERD_STATE": str(self.state), **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._file.close()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit code and how long the end took."""
        start = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(15), time.monotonic() - start
