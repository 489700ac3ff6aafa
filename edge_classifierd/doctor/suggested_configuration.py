"""The configuration that the doctor suggests, from the cameras, the Edge TPUs and the broker that are found here."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Final

from edge_classifierd.config.sections.base import slug
from edge_classifierd.config.sections.paths import state_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.doctor.find_cameras import FoundCamera
    from edge_classifierd.inference.edgetpu.devices import Tpu

BROKERS: Final = ("localhost", "homeassistant.local")
_MODEL: Final = "mobilenet_v2_1.0_224_quant"
_CONNECT_S: Final = 1.5
# What the configuration names in place of what was not found.
_NO_CAMERA: Final = "/dev/video0"
_NO_BROKER: Final = "localhost"


def find_broker(candidates: Sequence[str] = BROKERS, port: int = 1883) -> str | None:
    """The first of the hosts where something listens on the port of MQTT."""
    for host in candidates:
        with contextlib.suppress(OSError), socket.create_connection((host, port), _CONNECT_S):
            return host
    return None


def found_lines(cameras: Sequence[FoundCamera], tpus: Sequence[Tpu], broker: str | None) -> list[str]:
    """Return what was found, and what the suggested configuration holds in place of what was not."""
    lines = [f"camera found: {camera.name} ({camera.type} {camera.device})" for camera in cameras]
    if not cameras:
        lines.append(f"no camera found: the configuration waits for a USB camera at {_NO_CAMERA}")
    if broker is None:
        lines.append(f"no MQTT broker found: the configuration names {_NO_BROKER}; set `mqtt.host` to yours")
    else:
        lines.append(f"MQTT broker found: {broker}")
    return lines + [f"Edge TPU found: {tpu}" for tpu in tpus]


def suggest(cameras: Sequence[FoundCamera], tpus: Sequence[Tpu], broker: str | None) -> str:
    """YAML that loads as it is; every guess says that it is one."""
    lines = [
        "# edge-classifierd: made by `edge-classifierd doctor --suggest` on this machine.",
        "# Every key is explained in docs/configuration.md; check changes with `edge-classifierd check`.",
        "",
        "mqtt:",
        f"  host: {broker or _NO_BROKER}" + ("" if broker else "   # no broker was found: name yours"),
        "  # username: edge",
        "  # password: !credential mqtt_password",
        "",
    ]
    if tpus:
        models = state_directory() / "models"
        listed = ", ".join(map(str, tpus))
        lines += [
            f"# Found: Edge TPU {listed}. The bundled model runs on the processor; for the Edge TPU fetch one:",
            f"#   edge-classifierd models fetch {_MODEL}_edgetpu {_MODEL}",
            "# and give each pipeline",
            "#   model:",
            f"#     path: {models}/{_MODEL}_edgetpu.tflite",
            f"#     cpu_model: {models}/{_MODEL}.tflite",
            "",
        ]
    lines.append("pipelines:")
    if not cameras:
        lines.append("  # No camera was found; this one waits for a USB camera to be plugged in.")
        lines += _pipeline("camera", f"{{type: v4l2, device: {_NO_CAMERA}}}")
    names: set[str] = set()
    for camera in cameras:
        name = _unused(slug(camera.name)[:40] or "camera", names)
        lines.append(f"  # {camera.name}")
        if camera.type == "picamera2":
            lines += _pipeline(name, f"{{type: picamera2, camera: {camera.device}}}")
        else:
            lines += _pipeline(name, f"{{type: v4l2, device: {json.dumps(camera.device)}}}")
    lines += [
        "    # Without watches every label on top is reported. For instance:",
        "    # watches:",
        '    #   - {name: cat, labels: ["*cat"], threshold: 0.6, confirm: 3, cooldown: 30s}',
    ]
    return "\n".join(lines) + "\n"


def _pipeline(name: str, source: str) -> list[str]:
    # Quoted, as a camera that calls itself `2024` or `on` has a name all the same.
    return [f"  - name: {json.dumps(name)}", f"    source: {source}"]


def _unused(wanted: str, names: set[str]) -> str:
    name, number = wanted, 2
    while name in names:
        name, number = f"{wanted}-{number}", number + 1
    names.add(name)
    return name
