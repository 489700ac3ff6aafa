"""Kills daemon and training at random moments while a model is taught, and checks what is left.

    .venv/bin/python bench/teach_kills.py [--kills 100] [--seed 1]

Needs mosquitto and the package's extra `dev`. Of the kills two thirds are the daemon's. It stops at the first that
costs a confirmed picture, or leaves a version in use that is not whole.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from broker_process import Broker  # noqa: E402 - found only now
from teach_device import TeachDevice  # noqa: E402
from teach_kills import kill_daemon, kill_training, prepared  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder).start()
        try:
            with TeachDevice(folder, broker.port) as device:
                promised = prepared(device)
                for number in range(arguments.kills):
                    kill = kill_training if chance.random() < 1 / 3 else kill_daemon
                    kill(device, promised, after_s=chance.uniform(0, 3), seed=number)
                    confirmed = f"{len(promised.pictures)} pictures confirmed, version {promised.in_use} in use"
                    print(f"{number + 1:3} {kill.__name__}: intact; {confirmed}", flush=True)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
