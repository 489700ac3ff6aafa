"""Names of all topics that the daemon publishes or subscribes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edge_classifierd.config.sections.base import UNPUBLISHABLE

_LONGEST_BYTES = 65535


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device: `<base_topic>/<device>/…`.

    Pipelines and watches are given by name and form one topic level each.

    Raises:
        ValueError: A name is empty or contains `/`, a wildcard or a control character. The configuration refuses such
            names first.
    """

    base_topic: str
    device: str

    COMMAND_SUFFIX: ClassVar[str] = "/set"

    def __post_init__(self) -> None:
        base = self.base_topic
        if not base or base.startswith(("/", "$")) or base.endswith("/") or UNPUBLISHABLE.search(base):
            raise ValueError(
                f"{base!r} is not a base topic: no #, + or control characters, not begin with / or $, not end with /"
            )
        self._join()

    @property
    def base(self) -> str:
        """`<base_topic>/<device>`, the prefix of all topics."""
        return self._join()

    @property
    def status(self) -> str:
        """`online` or `offline`, retained; the last will."""
        return self._join("status")

    @property
    def health(self) -> str:
        """The health document, retained."""
        return self._join("health")

    @property
    def reload_command(self) -> str:
        """Command: reload the configuration."""
        return self._join("reload", "set")

    def pipeline_status(self, pipeline: str) -> str:
        """`online` or `offline`: whether the pipeline's camera delivers frames; retained."""
        return self._join(pipeline, "status")

    def event(self, pipeline: str) -> str:
        """Events, not retained."""
        return self._join(pipeline, "event")

    def state(self, pipeline: str) -> str:
        """The current classification, retained."""
        return self._join(pipeline, "state")

    def motion(self, pipeline: str) -> str:
        """`ON` while something moves, else `OFF`; retained, with the motion gate enabled."""
        return self._join(pipeline, "motion")

    def image(self, pipeline: str) -> str:
        """The JPEG of the last detection, retained."""
        return self._join(pipeline, "image")

    def enabled(self, pipeline: str) -> str:
        """`ON` or `OFF`: whether the pipeline is switched on; retained."""
        return self._join(pipeline, "enabled")

    def enabled_command(self, pipeline: str) -> str:
        """Command: switch the pipeline on or off."""
        return self._join(pipeline, "enabled", "set")

    def region(self, pipeline: str) -> str:
        """JSON: the part of the picture that is classified, retained."""
        return self._join(pipeline, "region")

    def region_command(self, pipeline: str) -> str:
        """Command: set the part of the picture that is classified."""
        return self._join(pipeline, "region", "set")

    def model(self, pipeline: str) -> str:
        """The taught model that was set by command, empty when it is as configured; retained."""
        return self._join(pipeline, "model")

    def model_command(self, pipeline: str) -> str:
        """Command: use a taught model."""
        return self._join(pipeline, "model", "set")

    def snapshot_command(self, pipeline: str) -> str:
        """Command: publish a picture on `image`."""
        return self._join(pipeline, "snapshot", "set")

    def watch_state(self, pipeline: str, watch: str) -> str:
        """`ON` while the watch is active, else `OFF`; retained."""
        return self._join(pipeline, watch, "state")

    def watch_stats(self, pipeline: str, watch: str) -> str:
        """Number of detections today and the time of the last one, retained."""
        return self._join(pipeline, watch, "stats")

    def threshold(self, pipeline: str, watch: str) -> str:
        """The watch's threshold, retained."""
        return self._join(pipeline, watch, "threshold")

    def threshold_command(self, pipeline: str, watch: str) -> str:
        """Command: set the watch's threshold."""
        return self._join(pipeline, watch, "threshold", "set")

    def _join(self, *levels: str) -> str:
        for level in (self.device, *levels):
            if not level or "/" in level or UNPUBLISHABLE.search(level):
                raise ValueError(f"{level!r} is not one level of a topic")
        topic = "/".join((self.base_topic, self.device, *levels))
        if len(topic.encode()) > _LONGEST_BYTES:
            raise ValueError(f"a topic of {len(topic.encode())} bytes is longer than MQTT allows: {topic:.60}…")
        return topic
