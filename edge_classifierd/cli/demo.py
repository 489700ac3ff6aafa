"""`demo`: the whole chain on bundled photos, the bundled model and an embedded broker."""

from __future__ import annotations

import importlib.util
import json as json_module
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.options import Json, LogLevel, reporting
from edge_classifierd.cli.outputs import program
from edge_classifierd.cli.streams import show
from edge_classifierd.errors import ExitCode, counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from edge_classifierd.mqtt.message import Incoming

    _Inbox: TypeAlias = queue.SimpleQueue[Incoming | signal.Signals]

_START_TIMEOUT_S = 60.0

# PR_SET_PDEATHSIG (prctl(2)): the child gets SIGTERM when this process ends. The main thread must start it.
_RUN = (
    "import ctypes, signal; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "from edge_classifierd.__main__ import main; main()"
)

_CONFIG = """\
device: {{id: demo}}
mqtt: {{host: 127.0.0.1, port: {port}, protocol: "3.1.1"}}   # the embedded broker amqtt supports 3.1.1 only
{page}pipelines:
  - name: photos
    source: {{type: folder, path: {photos}, fps: 1, loop: true}}
    watches:
      - {{name: cat, labels: ["*cat"], threshold: 0.5}}
      - {{name: coffee, labels: [espresso, cup, coffee mug, "*coffee*"], threshold: 0.5}}
      - {{name: rocket, labels: [missile, projectile, space shuttle], threshold: 0.4}}
"""


@reporting
def command(
    *,
    seconds: Annotated[float, typer.Option("--for", min=1, max=3600, help="How long to show events.")] = 15.0,
    json: Json = False,
    log_level: LogLevel = "error",
) -> ExitCode:
    """Show the whole chain with bundled photos and a broker.

    Prints the events that a subscriber receives, and serves the page meanwhile. Needs only the package with its extra
    `demo`. Ends by itself; Ctrl-C ends it earlier.

    Example: edge-classifierd demo
    """
    import edge_classifierd

    photos = Path(edge_classifierd.__file__).parent / "demo_photos"
    inbox: _Inbox = queue.SimpleQueue()
    with (
        _signals_to(inbox),
        tempfile.TemporaryDirectory(prefix="edge-classifierd-demo-") as folder,
        _broker() as port,
        _page_address() as page,
    ):
        config = Path(folder) / "config.yaml"
        section = "" if page is None else f'web: {{listen: "{page}"}}\n'
        text = _CONFIG.format(port=port, photos=json_module.dumps(str(photos)), page=section)
        config.write_text(text, encoding="utf-8")
        _print("The configuration:", json=json)
        _print("  " + config.read_text(encoding="utf-8").replace("\n", "\n  ").rstrip(), json=json)
        if page is not None:
            _print(f"\nThe page, while this runs: http://{page}/", json=json)
        _print("\nThe events, as an MQTT subscriber receives them:", json=json)
        shown = _show(inbox, config, port, seconds, log_level, json=json)
    if not shown:
        show("demo: no event arrived; run it again with --log-level info to see why", err=True)
        return ExitCode.FAILED
    events = counted(shown, "event")
    _print(f"\n{events}. Next: a configuration of your own, to be completed with what matters to you:", json=json)
    for step in ("doctor --suggest > config.yaml", "check --config config.yaml", "run --config config.yaml"):
        _print(f"  {program()} {step}", json=json)
    return ExitCode.OK


@contextmanager
def _page_address() -> Iterator[str | None]:
    """Reserve an address for the page; None without the page's libraries, or when no port can be had.

    No other program gets the port meanwhile; the page does, because both sockets have SO_REUSEADDR.
    """
    if not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn", "h11")):
        yield None
        return
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reserved.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{reserved.getsockname()[1]}"
        except OSError:
            address = None
        yield address


@contextmanager
def _signals_to(inbox: _Inbox) -> Iterator[None]:
    """Put SIGINT, SIGTERM and SIGHUP into a queue. An ignored signal (nohup) stays ignored.

    An exception from a signal handler could leave a lock of `subprocess` or of a queue locked for ever.
    """
    numbers = [one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {
        one: signal.signal(one, lambda number, _frame: inbox.put(signal.Signals(number)))  # `put` is reentrant
        for one in numbers
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _print(text: str, *, json: bool) -> None:
    show(text, err=json)


def _show(inbox: _Inbox, config: Path, port: int, seconds: float, log_level: str, *, json: bool) -> int:
    """Run the daemon and a subscriber; return the number of events. Raises SystemExit when a signal has come."""
    from edge_classifierd.clock import SystemClock
    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.topics import Topics

    section = MqttSection(host=("127.0.0.1",), port=port, protocol="3.1.1", client_id="demo-subscriber")
    subscriber = MqttClient(section, topics=Topics(section.base_topic, "demo"), clock=SystemClock(), announce=False)
    subscriber.subscribe("edge-classifierd/demo/#", inbox.put)
    subscriber.start()
    shown = 0
    try:
        with _daemon(config, log_level) as daemon:
            # The time is counted from the first event, because a small board starts slowly.
            end_s = time.monotonic() + _START_TIMEOUT_S
            while time.monotonic() < end_s and daemon.poll() is None:
                try:
                    message = inbox.get(timeout=0.2)
                except queue.Empty:
                    continue
                if isinstance(message, signal.Signals):
                    raise SystemExit(128 + message)
                is_event = _show_message(message, json=json)
                if is_event and not shown:
                    end_s = time.monotonic() + seconds
                shown += is_event
    finally:
        subscriber.stop(1.0)
    return shown


def _show_message(message: Incoming, *, json: bool) -> bool:
    is_event = message.topic.endswith("/event")
    if is_event:
        text = message.payload.decode()
        show(text if json else f"{message.topic}  {_brief(text)}")
    elif not json and message.topic.endswith(("/status", "/state")) and message.payload[:1] != b"{":
        show(f"{message.topic}  {message.payload.decode()}")
    sys.stdout.flush()
    return is_event


def _brief(text: str) -> str:
    event = json_module.loads(text)
    kept = ("seq", "type", "watch", "label", "confidence", "time", "inference_ms", "active_s")
    return json_module.dumps({key: event[key] for key in kept}, ensure_ascii=False)


@contextmanager
def _daemon(config: Path, log_level: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon in a child process, with its state beside its configuration. It ends when this process ends."""
    environment = {**os.environ, "EDGE_CLASSIFIERD_STATE": str(config.parent / "state")}
    environment.pop("NOTIFY_SOCKET", None)  # the notifications of this daemon are not for our service manager
    daemon = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-c", _RUN, "run", "--config", str(config), "--log-level", log_level],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield daemon
    finally:
        daemon.terminate()
        try:
            daemon.wait(5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextmanager
def _broker() -> Iterator[int]:
    """Run an embedded broker in a child process and yield its loopback port. Raises MissingError."""
    from edge_classifierd.cli.embedded_broker import wait_until_listening

    process = subprocess.Popen(
        [sys.executable, "-m", "edge_classifierd.cli.embedded_broker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield wait_until_listening(process)
    finally:
        process.terminate()
        process.wait(5)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
