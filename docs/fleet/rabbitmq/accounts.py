#!/usr/bin/env python3
"""Print RabbitMQ's definitions: the accounts and rights of a fleet.

usage: accounts.py ACCOUNTS.csv >definitions.json

Each line of ACCOUNTS.csv is `name,password` for a device, named like its `device.id`, or `name,password,home` for home
automation and other consumers, which read everything and send commands. Passwords are stored as salted hashes. Needs
Python only. Load a changed file into a running cluster with `rabbitmqctl import_definitions FILE`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import sys

BASE_TOPIC = "edge-classifierd"  # mqtt.base_topic of the devices
QUEUE = "mqtt-subscription-"  # the queue of a client: this, the client id, and qos0 or qos1


def password_hash(password: str) -> str:
    """Return a password as RabbitMQ stores it: base64 of a salt of four bytes and SHA-256(salt + password)."""
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def rights(name: str, *, home: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return an account's rights on queues and exchanges, and its rights on topics (regular expressions).

    RabbitMQ writes `/` as `.` and `+` as `*`, and replaces {username}. An account without rights on topics may use all.
    """
    own = f"{QUEUE}.*" if home else f"{QUEUE}edge-classifierd-{name}-[0-9a-f]{{8}}qos[01]"
    use = f"^({own}|amq\\.topic)$"
    resources = {"configure": f"^{own}$", "write": use, "read": use}
    if home:
        write = f"^({BASE_TOPIC}\\..+\\.set|homeassistant\\.status)$"
        return resources, {"write": write, "read": f"^({BASE_TOPIC}|homeassistant)\\..+$"}
    write = f"^({BASE_TOPIC}\\.{{username}}\\..+|homeassistant\\.device\\.edge-classifierd_{{username}}\\.config)$"
    return resources, {"write": write, "read": f"^({BASE_TOPIC}\\.{{username}}\\..+|homeassistant\\.status)$"}


def definitions(accounts: list[tuple[str, str, bool]]) -> dict[str, object]:
    """Return the document of (name, password, whether it is home automation)."""
    users, permissions, topic_permissions = [], [], []
    for name, password, home in accounts:
        resources, topics = rights(name, home=home)
        users.append(
            {
                "name": name,
                "password_hash": password_hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
        )
        permissions.append({"user": name, "vhost": "/", **resources})
        topic_permissions.append({"user": name, "vhost": "/", "exchange": "amq.topic", **topics})
    # A message is never given up because its consumer was cut off many times.
    policy = {
        "vhost": "/",
        "name": "sessions",
        "pattern": f"^{QUEUE}",
        "apply-to": "quorum_queues",
        "priority": 0,
        "definition": {"delivery-limit": -1},
    }
    return {
        "vhosts": [{"name": "/"}],
        "users": users,
        "permissions": permissions,
        "topic_permissions": topic_permissions,
        "policies": [policy],
    }


def read(path: str) -> list[tuple[str, str, bool]]:
    """Return the accounts of a file; end with a sentence if a line is wrong."""
    found: dict[str, tuple[str, str, bool]] = {}
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 - runs alone, on any Python 3
        for number, row in enumerate(csv.reader(file), 1):
            if not row:
                continue
            name, password, role = [*row, "", ""][:3]
            known = len(row) <= 3 and role in {"", "home"}
            if not known or not re.fullmatch("[a-z0-9_-]{1,64}", name) or not password or name in found:
                sys.exit(
                    f"{path}:{number}: must be `name,password` or `name,password,home`, each name (a-z 0-9 _ -) once"
                )
            found[name] = (name, password, role == "home")
    return list(found.values())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    json.dump(definitions(read(sys.argv[1])), sys.stdout, indent=1)
