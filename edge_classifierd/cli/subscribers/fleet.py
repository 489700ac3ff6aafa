"""`fleet`: prints the state of every device below one base topic."""

from __future__ import annotations

import json as json_module
import logging
import re
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from math import inf
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, reporting
from edge_classifierd.cli.streams import complain, show
from edge_classifierd.cli.subscribers.broker import subscriber_settings
from edge_classifierd.cli.tables import print_table
from edge_classifierd.errors import ExitCode, UsageError, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.fleet.device import DeviceHealth, DevicePipeline
    from edge_classifierd.fleet.fleet import ExpectedModel, Fleet, FleetDevice
    from edge_classifierd.mqtt.client import MqttClient

_CONNECT_S: Final = 10.0
_QUIET_S: Final = 0.5
"""All retained messages have come when none came for this long."""
_FIRST_S: Final = 5.0
"""There is no device when no retained message has come for this long."""
_COLLECT_S: Final = 10.0
_WAIT_S: Final = 0.1
_EVERY_S: Final = 1.0
_NONE_FOUND: Final = (
    "check mqtt.base_topic, and use --for 35 with a broker that does not deliver retained messages, such as RabbitMQ"
)
_SHORT_HASH: Final = 8
_LEAST_HASH: Final = 6
_MODEL_NAME: Final = 18
"""Characters of a model's name in the table, which then fits 80 columns; the hash after it is never shortened."""


@reporting
def command(
    config: Config = DEFAULT_CONFIG,
    *,
    host: Annotated[str | None, typer.Option(help="Another broker; no configuration is read.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The other broker's port.")] = 1883,
    watch: Annotated[bool, typer.Option("--watch", help="Print again what has changed, until Ctrl-C.")] = False,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=HASH", help="Wait until all devices use this model; `model` means any name."),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="Listen for N seconds.")] = None,
    json: Json = False,
    log_level: LogLevel = "warning",
) -> ExitCode:
    """Print the state of every device below the base topic.

    It is read from the retained status and health of the devices. Exit code 1 when something is wrong with a device,
    when there is none, or when --for ends before all use the expected models.

    Example: edge-classifierd fleet --expect birds=3f2a91c4 --for 600
    """
    from edge_classifierd.clock import SystemClock
    from edge_classifierd.fleet.fleet import Fleet
    from edge_classifierd.mqtt.client import MqttClient

    expected = [_expected(text) for text in expect or []]
    section, topics = subscriber_settings(config, host, port, None)
    clock = SystemClock()
    client = MqttClient(section, topics=topics, clock=clock, announce=False)
    fleet = Fleet(topics.base_topic, clock)
    for one in fleet.filters:
        client.subscribe(one, fleet.hear)
    if log_level == "warning":  # the last reason is printed in the end; each attempt would give the same warning
        logging.disable(logging.WARNING)
    client.start()
    report = _print_json if json else _print_table
    try:
        if not _collect(client, fleet):
            reason = client.status_sentence.removeprefix("reconnecting: ")
            complain(f"{reason} (no connection within {_CONNECT_S:g} s)")
            return ExitCode.FAILED
        logging.disable(logging.NOTSET)
        none = f"{client.endpoint}: no device was found below `{topics.base_topic}/`; {_NONE_FOUND}"
        if not fleet.devices() and seconds is None:
            complain(none)
        if watch or expected or seconds is not None:
            _follow(fleet, report if watch else None, expected, seconds=seconds)
        devices = fleet.devices()
        if not devices and seconds is not None:
            complain(none)
        if not watch:
            report(devices)
        missing = [sentence for one in expected for sentence in _missing(one, devices)]
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    finally:
        logging.disable(logging.NOTSET)
        client.stop(1.0)
    for sentence in missing:
        complain(sentence)
    wrong = not devices or missing or any(device.problems for device in devices)
    return ExitCode.FAILED if wrong else ExitCode.OK


def _expected(text: str) -> ExpectedModel:
    from edge_classifierd.fleet.fleet import ExpectedModel

    name, _, sha256 = text.rpartition("=")
    if not name or not re.fullmatch(rf"[0-9a-fA-F]{{{_LEAST_HASH},64}}", sha256):
        raise UsageError(
            f"--expect {text}: give a model's name and the first {_LEAST_HASH} or more digits of its SHA-256, such as "
            "birds=3f2a91c4; `edge-classifierd models info` prints it"
        )
    return ExpectedModel(name, sha256.lower())


def _collect(client: MqttClient, fleet: Fleet) -> bool:
    """Wait for the retained messages. Return whether there was a connection."""
    end_s = time.monotonic() + _CONNECT_S
    while not client.connected:
        if time.monotonic() >= end_s:
            return False
        time.sleep(_WAIT_S)
    end_s = time.monotonic() + _COLLECT_S
    retained, quiet_s = 0, time.monotonic() + _FIRST_S
    while time.monotonic() < end_s:
        if fleet.retained != retained:
            retained, quiet_s = fleet.retained, time.monotonic() + _QUIET_S
        elif time.monotonic() >= quiet_s:
            break
        time.sleep(_WAIT_S)
    return True


def _follow(
    fleet: Fleet,
    report: Callable[[Sequence[FleetDevice]], None] | None,
    expected: list[ExpectedModel],
    *,
    seconds: float | None,
) -> None:
    """Print the devices whenever they change, until Ctrl-C, the end of the time, or all use the expected models."""
    from rich.console import Console

    end_s = inf if seconds is None else time.monotonic() + seconds
    printed: object = None
    while True:
        devices = fleet.devices()
        if report is not None and (shown := _without_figures(devices)) != printed:
            if sys.stdout.isatty() and report is _print_table:
                Console().clear()
            report(devices)
            sys.stdout.flush()
            printed = shown
        if expected and not any(_missing(one, devices) for one in expected):
            return
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(_EVERY_S, left_s))


def _without_figures(devices: Sequence[FleetDevice]) -> object:
    """Return the devices without what changes in every health document."""
    return [
        (device.id, device.online, device.problems, health and (health.version, health.address), pipelines)
        for device in devices
        for health in (device.health,)
        for pipelines in ([replace(one, fps=None) for one in health.pipelines] if health else [],)
    ]


def _missing(expected: ExpectedModel, devices: Sequence[FleetDevice]) -> tuple[str, ...]:
    missing = expected.missing(devices)
    wanted = f"{expected.name}={expected.sha256[:_SHORT_HASH]}"
    if not missing and not expected.used_by(devices):
        return (f"{wanted}: no device uses it",)
    return tuple(f"{wanted}: {sentence}" for sentence in missing)


def _print_json(devices: Sequence[FleetDevice]) -> None:
    document = [asdict(device) for device in devices]
    show(json_module.dumps({"devices": document}, ensure_ascii=False, default=lambda moment: moment.isoformat()))


def _print_table(devices: Sequence[FleetDevice]) -> None:
    from rich.table import Table

    if not devices:
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("device", "state", "model", "on"):
        table.add_column(name, no_wrap=True)
    for name in ("fps", "°C", "waiting", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for device in devices:
        state = "online" if device.online else "offline"
        table.add_row(device.id, state, *_of_device(device.health))
        for pipeline in () if device.health is None else device.health.pipelines:
            state = pipeline.status if device.online else ""  # it was so when the device was last heard
            table.add_row(f"  {pipeline.name}", state, *_of_pipeline(pipeline))
    print_table(table)
    for device in devices:
        for problem in device.problems:
            show(f"{device.id}: {problem}")
    bad = sum(bool(device.problems) for device in devices)
    online = sum(device.online for device in devices)
    _print_versions(devices)
    number = "1 device" if len(devices) == 1 else f"{len(devices):,} devices"
    show(f"{number}, {online:,} online, {f'{bad:,} with problems' if bad else 'all well'}")


def _print_versions(devices: Sequence[FleetDevice]) -> None:
    """Print how many devices have each version, when they differ."""
    versions = Counter(device.health.version for device in devices if device.health and device.health.version)
    if len(versions) > 1:
        show("versions: " + ", ".join(f"{version} ({count:,})" for version, count in versions.most_common()))


def _of_device(health: DeviceHealth | None) -> tuple[str, ...]:
    if health is None:
        return ("", "", "", "", "", "")
    version = " ".join(filter(None, ("" if health.version is None else f"version {health.version}", health.address)))
    temperature = "" if health.temperature_c is None else f"{health.temperature_c:.0f}"
    return version, "", "", temperature, _number(health.waiting), _number(health.lost)


def _of_pipeline(pipeline: DevicePipeline) -> tuple[str, ...]:
    model = ""
    if pipeline.model is not None:
        model = f"{shortened(pipeline.model, _MODEL_NAME)} {(pipeline.model_sha256 or '')[:_SHORT_HASH]}"
    fps = "" if pipeline.fps is None else f"{pipeline.fps:.1f}"
    return model, pipeline.accelerator or "", fps, "", "", ""


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
