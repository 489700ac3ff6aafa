"""The demonstration as a shell meets it: ended from outside, without its extra, with a broker that does not start."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from broker_process import wait_until
from processes import commands

from edge_classifierd.cli import demo as demonstration
from edge_classifierd.cli.embedded_broker import wait_until_listening
from edge_classifierd.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = (sys.executable, "-m", "edge_classifierd", "demo")


def processes_of(folder: Path) -> set[int]:
    """Of the running processes those that were told of something in that folder."""
    return {process for process, words in commands() if any(os.fsencode(folder) in word for word in words)}


def children_of(process: subprocess.Popen[str]) -> set[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return {int(number) for number in listed.split()}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demonstration that has shown its daemon's first word; what it keeps is in `tmp_path`."""
    with subprocess.Popen(
        [*DEMO, "--for", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("edge-classifierd/demo/"):
                break
        assert processes_of(tmp_path)
        yield process
        process.kill()
    for left in processes_of(tmp_path):
        os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demonstration_that_is_ended_leaves_nothing_behind(
    demo: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    children = children_of(demo)
    assert len(children) == 2
    demo.send_signal(number)
    demo.send_signal(number)
    _, said = demo.communicate(timeout=20)
    assert (demo.returncode, said) == (128 + number, "")
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert list(tmp_path.iterdir()) == []


def test_a_demonstration_serves_the_page_on_this_machine_only(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    assert demo.poll() is None
    (config,) = tmp_path.glob("*/config.yaml")
    found = re.search(r'web: {listen: "(127\.0\.0\.1:\d+)"}', config.read_text())
    assert found is not None

    def answers() -> bool:
        with suppress(OSError):
            return b"ok" in urlopen(f"http://{found[1]}/healthz", timeout=5).read()
        return False

    wait_until(answers, 30, "the page answers")


def test_the_port_of_the_page_is_kept_for_the_page() -> None:
    with demonstration._page_address() as page:
        assert page is not None
        address = ("127.0.0.1", int(page.rpartition(":")[2]))
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)
        with socket.create_server(address):  # with SO_REUSEADDR, as the page does
            pass


@pytest.mark.parametrize("lacking", ["starlette", "uvicorn", "a port"])
def test_a_demonstration_goes_on_without_the_page(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    class NoPort(socket.socket):
        def bind(self, _address: object) -> None:
            raise OSError

    with demonstration._page_address() as page:
        assert page is not None
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == lacking else find_spec(name))
    if lacking == "a port":
        monkeypatch.setattr("socket.socket", NoPort)
    with demonstration._page_address() as page:
        assert page is None


def test_the_daemon_of_a_demonstration_that_is_killed_ends(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    demo.kill()
    wait_until(lambda: not processes_of(tmp_path), 20, "the daemon ends")


def test_a_hangup_that_is_to_be_ignored_is(tmp_path: Path) -> None:
    """As `nohup` has it."""
    with subprocess.Popen(
        ["bash", "-c", 'trap "" HUP; exec "$@"', "bash", *DEMO, "--for", "1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0


def test_without_its_extra_the_demonstration_says_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "amqtt.py").touch()  # stands before the real one and has no broker
    done = subprocess.run(DEMO, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "the embedded broker did not start; install it with `pip install 'edge-classifierd[demo]'`"
    ]


@pytest.mark.parametrize("said", ["", "18"], ids=["nothing", "half a line"])
def test_a_broker_that_never_says_its_port_is_not_waited_for(said: str) -> None:
    child = f"import time; print({said!r}, end='', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        start = time.monotonic()
        with pytest.raises(MissingError, match=r"did not start within 0\.5 s; "):
            wait_until_listening(process, timeout_s=0.5)
        process.kill()
    assert time.monotonic() - start < 10


def test_the_next_steps_can_be_typed_as_they_are_shown_and_nothing_is_warned_of(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": "/usr/bin:/bin",  # without the installed command
        "TMPDIR": "/dev/shm",  # as Debian 13's /tmp: in memory
        "NOTIFY_SOCKET": str(tmp_path / "of-the-caller"),
    }
    done = subprocess.run(
        [*DEMO, "--for", "1"], check=False, capture_output=True, text=True, cwd=tmp_path, timeout=90, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, _, step = done.stdout.splitlines()[-3:]
    shown = step.strip().removesuffix(" run --config config.yaml")
    asked = subprocess.run(["bash", "-c", f"{shown} --version"], check=False, capture_output=True, cwd=tmp_path)
    assert (asked.returncode, asked.stdout[:17]) == (0, b"edge-classifierd "), shown
