"""Settings of exposure, white balance and focus, as libcamera's controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class CameraControls:
    """Settings of a camera; None means automatic."""

    exposure: str | None = None
    """Mode of the automatic exposure: normal, short or long."""
    exposure_time_s: float | None = None
    gain: float | None = None
    white_balance: str | None = None
    """auto, incandescent, tungsten, fluorescent, indoor, daylight or cloudy."""
    focus: float | None = None
    """Dioptres (0: infinity, 2: half a metre); None: continuous autofocus where the camera can."""

    def controls(
        self,
        known: Mapping[str, tuple[Any, Any, Any]],
        enums: Any,  # noqa: ANN401 - no types
        fps: float | None,
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the controls to set, and the keys of the configuration that the camera has no control for.

        `known` holds the camera's controls as (minimum, maximum, default); `enums` is the module libcamera.controls.
        """
        wanted: dict[str, tuple[str, Any]] = {}
        if self.exposure is not None:
            wanted["AeExposureMode"] = ("exposure", getattr(enums.AeExposureModeEnum, self.exposure.capitalize()))
        if self.exposure_time_s is not None:
            wanted["ExposureTime"] = ("exposure_time", round(self.exposure_time_s * 1e6))
        if self.gain is not None:
            wanted["AnalogueGain"] = ("gain", self.gain)
        if self.white_balance is not None:
            wanted["AwbMode"] = ("white_balance", getattr(enums.AwbModeEnum, self.white_balance.capitalize()))
        if self.focus is not None:
            wanted["AfMode"] = ("focus", enums.AfModeEnum.Manual)
            wanted["LensPosition"] = ("focus", self.focus)
        ignored = sorted({key for name, (key, _) in wanted.items() if name not in known})
        controls = {name: value for name, (_, value) in wanted.items() if name in known}
        if self.focus is None and "AfMode" in known:
            controls["AfMode"] = enums.AfModeEnum.Continuous
        if fps is not None and "FrameDurationLimits" in known:
            shortest, longest = known["FrameDurationLimits"][:2]
            duration = round(min(max(1e6 / fps, shortest), longest))
            controls["FrameDurationLimits"] = (duration, duration)
        return controls, ignored
