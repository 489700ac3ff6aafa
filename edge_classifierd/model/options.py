"""The user's settings for a model whose file does not contain them: `model.input` and `model.output`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edge_classifierd.errors import ModelError

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.tensor_spec import PictureLayout


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """None where the user gave no value."""

    mean: tuple[float, ...] | None = None
    """One value, or one for each channel in the order of the model's channels."""
    std: tuple[float, ...] | None = None
    channels: Literal["rgb", "bgr"] | None = None
    size: tuple[int, int] | None = None
    """Height and width, for a model whose input has no fixed size."""
    output: int | str | None = None
    """Position or name of the output with the scores."""

    def check(self, layout: PictureLayout) -> None:
        """Raise ModelError when the values do not suit the channels of the model."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in {1, layout.channels}:
                raise ModelError(
                    f"has {layout.channels} channel{'s' if layout.channels > 1 else ''}, but `{name}` has "
                    f"{len(values)} values; give one value{', or three' if layout.channels == 3 else ''}"
                )
        if self.channels == "bgr" and layout.channels == 1:
            raise ModelError("takes greyscale pictures; leave out `channels`")


NO_OPTIONS = ModelOptions()
