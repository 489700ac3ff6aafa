"""A daemon reduced to outbox, publisher and session, in a process that can be killed: makes events at a steady rate.

Writes a line `seq event_id` to the journal after each append has returned: from then on the event must not be lost.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.topics import Topics


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--outbox", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--events", type=int, default=0, help="then wait for the end; 0: no events at all")
    parser.add_argument("--rate", type=float, default=200.0, help="per second")
    parser.add_argument("--protocol", default="5")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(relativeCreated)d %(levelname)s %(message)s")
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    clock = SystemClock()
    topics = Topics("edge-classifierd", "porch")
    outbox = Outbox(arguments.outbox, topic=lambda event: topics.event(event.pipeline), clock=clock)
    section = MqttSection.model_validate(
        {
            "host": arguments.host,
            "port": arguments.port,
            "protocol": 5 if arguments.protocol == "5" else "3.1.1",
            "keepalive": 5.0,
        }
    )
    session = MqttClient(section, topics=topics, clock=clock, backoff=Backoff(0.05, 0.4), answer_timeout_s=1.0)
    publisher = Publisher(outbox, session, clock)
    publisher.start()
    session.start()
    print("READY", flush=True)
    journal = os.open(arguments.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    started = time.monotonic()
    for made in range(arguments.events):
        if end.wait(max(0.0, started + made / arguments.rate - time.monotonic())):
            break
        draft = EventDraft(
            type=EventType.DETECTED,
            device="porch",
            pipeline="driveway",
            watch="dog",
            label="Labrador retriever",
            confidence=0.83,
            top=(RankedLabel(208, "Labrador retriever", 0.71),),
            time=clock.utc(),
            clock_synchronised=True,
            model=ModelIdentity("efficientnet_lite0_int8", "0" * 64, "ai-edge-litert 2.3.0", "cpu"),
            inference_ms=5.1,
        )
        for event in outbox.append([draft]):
            os.write(journal, f"{event.seq} {event.event_id}\n".encode())
    end.wait()
    publisher.stop()
    session.stop()
    outbox.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
