"""The checks of the broker."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.doctor import check_broker
from edge_classifierd.doctor.check_broker import discovery_prefix
from edge_classifierd.mqtt.message import Incoming, Message, PublishOutcome

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.mqtt.client import MqttClient
from examination_scene import TOPICS, write_config


class FakeSession:
    """A broker's answer to the round trip's message."""

    def __init__(
        self, heard: deque[Incoming], outcome: PublishOutcome | None, *, returns: bool, protocol: str = "5"
    ) -> None:
        self.endpoint = SimpleNamespace(protocol=protocol)
        self.message: Message | None = None
        self._answer = heard, outcome, returns

    def publish(self, message: Message) -> bool:
        heard, outcome, returns = self._answer
        self.message = message
        if outcome is not None and message.on_outcome is not None:
            message.on_outcome(outcome, "not authorized")
        if returns:
            heard.append(Incoming(message.topic, message.payload, retained=False))
        return True


@pytest.mark.parametrize(
    ("outcome", "returns", "protocol", "expected"),
    [
        (PublishOutcome.DELIVERED, True, "5", ("ok", "came back in")),
        (PublishOutcome.DELIVERED, False, "5", ("ok", "was acknowledged in")),
        (PublishOutcome.DELIVERED, False, "3.1.1", ("warning", "did not deliver it")),
        (PublishOutcome.REFUSED, False, "5", ("failed", "the broker refuses messages on t/doctor (not authorized)")),
        (None, False, "5", ("failed", "no acknowledgement")),
    ],
)
def test_a_message_there_and_back_says_what_the_account_may(
    monkeypatch: pytest.MonkeyPatch,
    outcome: PublishOutcome | None,
    returns: bool,
    protocol: str,
    expected: tuple[str, str],
) -> None:
    verdict, said = expected
    monkeypatch.setattr(check_broker, "_ANSWER_S", 0.05)
    monkeypatch.setattr(check_broker, "_ECHO_S", 0.05)
    heard: deque[Incoming] = deque([Incoming("t/doctor", b"of another doctor", retained=False)])
    session = FakeSession(heard, outcome, returns=returns, protocol=protocol)
    finding = check_broker._round_trip(cast("MqttClient", session), "t/doctor", heard)
    assert finding.verdict == verdict
    assert said in finding.sentence
    assert bool(finding.remedy) is (verdict != "ok")
    assert session.message is not None
    assert (session.message.retain, session.message.qos) == (False, 1)
    if outcome is PublishOutcome.REFUSED:
        assert finding.remedy == "let the account write t/# (its ACL)"


@pytest.mark.parametrize(
    ("prefix", "status", "configs", "verdict", "said"),
    [
        ("ha", b"online", [], "ok", "online on this broker (ha/status)"),
        (None, b"online", [], "ok", "online on this broker (homeassistant/status)"),
        (None, None, [], "unused", "discovery is switched off"),
        ("ha", b"offline", [b"{}"], "warning", "shows offline on ha/status"),
        ("ha", None, [b"{}", b"{}", b"edge-classifierd/porch/x"], "ok", "other devices (2)"),
        ("ha", None, [b"edge-classifierd/porch/x"], "warning", "ha/status is silent"),
    ],
)
def test_home_assistant_is_told_by_what_the_broker_keeps(
    prefix: str | None, status: bytes | None, configs: list[bytes], verdict: str, said: str
) -> None:
    heard = deque([Incoming("edge-classifierd/porch/status", b"online", retained=True)])
    if status is not None:
        heard.append(Incoming(f"{prefix or 'homeassistant'}/status", status, retained=True))
    announced = deque(Incoming("ha/device/x/config", payload, retained=True) for payload in configs)
    finding = check_broker._home_assistant(prefix, TOPICS, heard, announced)
    assert finding.verdict == verdict
    assert said in finding.sentence
    assert bool(finding.remedy) is (verdict == "warning")


def test_what_the_broker_keeps_of_a_daemon_that_does_not_run_here() -> None:
    assert check_broker.check_absent_daemon(None).verdict == "unused"
    offline = check_broker.check_absent_daemon(b"offline")
    assert (offline.verdict, "the broker shows offline" in offline.sentence) == ("unused", True)
    elsewhere = check_broker.check_absent_daemon(b"online")
    assert (elsewhere.verdict, "device.id" in elsewhere.remedy) == ("warning", True)
    anything = check_broker.check_absent_daemon(b"\xff" * 100)
    assert anything.sentence.count("�") == 20, "whoever may write there may write anything"


def test_discovery_may_be_off_or_elsewhere(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    text = config.read_text()
    found = []
    for section in ("{}", "{prefix: ha}", "{enabled: false}"):
        config.write_text(text.replace("  port: 9\n", f"  port: 9\n  home_assistant: {section}\n"))
        found.append(discovery_prefix(load(config).configuration))
    assert found == ["homeassistant", "ha", None]


def test_a_broker_that_is_not_there_is_one_failed_line(tmp_path: Path) -> None:
    start_s = time.monotonic()
    visit = check_broker.visit_broker(load(write_config(tmp_path)).configuration, SystemClock())
    assert time.monotonic() - start_s < 10, "the first refusal is enough"
    (finding,) = visit.results
    assert (finding.name, finding.verdict) == ("broker", "failed")
    assert "127.0.0.1:9" in finding.sentence
    assert finding.remedy
    assert visit.status is None
    assert not [thread.name for thread in threading.enumerate() if "mqtt" in thread.name]
