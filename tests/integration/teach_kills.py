"""Kills a daemon, or the child that trains, while pictures arrive, a model is trained and versions are switched."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from broker_process import wait_until
from drawn_pictures import SHAPES
from processes import commands
from teach_device import MODEL, TeachDevice

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.jpeg import decode_jpeg
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.taught import taught_in_use
from edge_classifierd.teaching.store import TeachingStore
from edge_classifierd.teaching.training.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHILD = b"edge_classifierd.teaching.training.child"
_FAILURES = (OSError, http.client.HTTPException, AssertionError, ValueError, LookupError)
"""What a request raises whose daemon is killed."""


@dataclass
class Promised:
    """What the daemon has confirmed."""

    pictures: list[str] = field(default_factory=list)
    in_use: int = 0
    wanted: int = 0
    """The version that was asked for last, confirmed or not."""
    trained: int = 0


class Teachers:
    """Threads that upload, train and switch between the versions 1 and 2 until the daemon is killed."""

    def __init__(self, device: TeachDevice, promised: Promised, seed: int) -> None:
        self._device = device
        self._promised = promised
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        works = (self._upload, self._train, self._use)
        self._threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(*_FAILURES):
                work()
            self._stopping.wait(0.02)

    def _upload(self) -> None:
        shape, number = self._random.choice(SHAPES), self._random.randrange(10**9)
        name = "unknown" if shape == "cross" else shape
        self._promised.pictures.append(self._device.upload(name, shape, number))

    def _train(self) -> None:
        self._device.request("POST", f"{MODEL}/trainings", {})
        self._stopping.wait(0.3)

    def _use(self) -> None:
        self._promised.wanted = 3 - self._promised.in_use
        self._device.send("POST", f"{MODEL}/versions/{self._promised.wanted}/use", {})
        self._promised.in_use = self._promised.wanted


def kill_daemon(device: TeachDevice, promised: Promised, *, after_s: float, seed: int) -> None:
    """Let the daemon work for a moment, kill it, check the state directory, and start it again."""
    with Teachers(device, promised, seed):
        time.sleep(after_s)
        device.daemon.process.send_signal(signal.SIGKILL)
        device.daemon.process.wait(10)
    wait_until(lambda: training_child(device) is None, 10, "the end of the training with its daemon")
    check(device.state, promised)
    device.start_again()
    expected = taught_in_use(device.state, "shapes").version
    wait_until(lambda: (device.driveway["model"] or {}).get("version") == expected, 40)


def kill_training(device: TeachDevice, promised: Promised, *, after_s: float, seed: int) -> None:
    """Kill the child that trains; the daemon goes on and reports the failure."""
    with Teachers(device, promised, seed):
        wait_until(lambda: training_child(device), 40, "a training")
        time.sleep(after_s)
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(training_child(device), signal.SIGKILL)  # type: ignore[arg-type] # None when it has ended
    training = device.get("/api/overview")["training"]
    if training is not None:  # one that was begun after the kill
        device.send("DELETE", f"{MODEL}/trainings/{training['id']}")
        wait_until(lambda: device.get("/api/overview")["training"] is None, 20)
    wait_until(lambda: device.driveway["online"], 20)  # a version may have been put in use just now
    check(device.state, promised)


def training_child(device: TeachDevice) -> int | None:
    """Return the process that trains, if there is one."""
    parent = b"%d" % device.daemon.process.pid
    return next((process for process, words in commands() if _CHILD in words and words[-1] == parent), None)


def check(state: Path, promised: Promised) -> None:
    """Check that every confirmed picture and the version in use are there and whole, and nothing else is."""
    store, versions = TeachingStore(state, SystemClock()), Versions(state)
    try:
        shown = [one for each in store.model("shapes").classes for one in listed(store, each.id)]
        assert set(promised.pictures) <= set(shown), "a confirmed picture is gone"
        for picture in shown:
            jpeg = store.jpeg("shapes", picture)
            assert jpeg is not None, f"the row of {picture} has no file"
            decode_jpeg(jpeg, picture, most_memory=10**8)
            assert store.jpeg("shapes", picture, thumb=True)
        in_use = taught_in_use(state, "shapes")
        assert in_use.version in {promised.in_use, promised.wanted}
        promised.in_use = promised.wanted = in_use.version
        bundle = load_bundle(in_use.file)
        assert bundle.sha256 == in_use.sha256
        results = versions.results("shapes")
        assert len(results) >= promised.trained
        promised.trained = min(10, len(results))
        for result in results:
            assert load_bundle(versions.file("shapes", result.version, "model.tflite")).sha256 == result.sha256
    finally:
        store.close()


def listed(store: TeachingStore, class_id: str) -> list[str]:
    """Return all pictures of a class."""
    found: list[str] = []
    while True:
        page = [one.id for one in store.pictures("shapes", class_id, after=found[-1] if found else None, limit=500)]
        found += page
        if len(page) < 500:
            return found


def prepared(device: TeachDevice) -> Promised:
    """Teach `shapes` in two versions and use the first on the pipeline."""
    device.prepare(6)
    for _ in range(2):
        assert device.train()["stage"] == "finished"
        device.upload("disc", "disc", random.randrange(10**9))
    device.send("POST", f"{MODEL}/versions/1/use", {"pipeline": "driveway"})
    return Promised(in_use=1, wanted=1, trained=2)
