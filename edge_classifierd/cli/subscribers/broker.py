"""The broker and the topics that a subscribing command uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_classifierd.cli.options import refuse_impossible_device
from edge_classifierd.errors import UsageError, shortened

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.topics import Topics


def subscriber_settings(config: Path, host: str | None, port: int, device: str | None) -> tuple[MqttSection, Topics]:
    """Return the broker and the topics, with a new client id: with the daemon's id each would disconnect the other."""
    import uuid

    from pydantic import ValidationError

    from edge_classifierd.config.loading.load import load
    from edge_classifierd.config.sections.configuration import DeviceSection
    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.topics import Topics

    refuse_impossible_device(device)
    client_id = f"edge-classifierd-listen-{uuid.uuid4().hex[:8]}"
    if host is not None:
        if not host.strip():
            raise UsageError("--host: must not be empty; give the broker's name or address")
        try:
            settings = {"host": host, "port": port, "client_id": client_id}
            section, own = MqttSection.model_validate(settings), DeviceSection().id
        except ValidationError as error:
            shown = shortened(host.encode(errors="replace").decode())
            raise UsageError(f"--host {shown}: cannot be a broker's name or address; correct it") from error
    else:
        configuration = load(config).configuration
        section, own = configuration.mqtt.model_copy(update={"client_id": client_id}), configuration.device.id
    chosen = own if device in {None, "+"} else str(device)
    return section, Topics(section.base_topic, chosen)
