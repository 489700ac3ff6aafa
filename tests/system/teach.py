"""teach.py PASSWORD prepare | begin | wait TRAINING: teaches the model `shapes` over the page's API.

`prepare` uploads drawn pictures, `begin` prints the training's id, `wait` its last stage and why it has failed.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from drawn_pictures import SHAPES, drawn, write

_AT = "http://127.0.0.1:8480/api/taught"
_PICTURES = 12


def send(password: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
    """Send a request, a POST when it has a body; return the document of the answer."""
    known = {"Authorization": "Basic " + base64.b64encode(f":{password}".encode()).decode(), "Content-Type": kind}
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(_AT + path, content, known), timeout=60) as answer:
        return json.loads(answer.read())


def prepare(password: str) -> None:
    """Make the model with pictures of three classes."""
    made = send(password, "", {"name": "shapes", "pipeline": "garden"})
    for shape in SHAPES:
        unknown = shape == "cross"
        owner = made["classes"][0] if unknown else send(password, "/shapes/classes", {"name": shape})
        for number in range(_PICTURES):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "picture.jpg"
                write(file, drawn(shape, number))
                send(password, f"/shapes/pictures?class={owner['id']}", file.read_bytes(), "image/jpeg")


def wait(password: str, training: str) -> str:
    """Return the last stage of a training and the reason of a failure."""
    while True:
        state = send(password, f"/shapes/trainings/{training}")
        if state["stage"] in {"finished", "failed", "cancelled"}:
            return f"{state['stage']}: {state['failure']}"
        time.sleep(0.2)


def main(password: str, what: str, *training: str) -> None:
    if what == "prepare":
        prepare(password)
    elif what == "begin":
        print(send(password, "/shapes/trainings", {})["id"])
    else:
        print(wait(password, *training))


if __name__ == "__main__":
    main(*sys.argv[1:])
