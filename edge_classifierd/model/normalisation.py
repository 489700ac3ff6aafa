"""Which normalisation a model expects when nobody wrote it down, or when what is written cannot be meant.

Quantised inputs: the tensor's own range says what its author fed it. Coral's classifiers (and pycoral's classify
example, mean 128, deviation 128) take the pixel itself: uint8, scale 1/128, zero point 128, although their metadata
says mean 127.5, deviation 127.5. The same holds for every tensor whose 256 values span [-1, 1], [0, 1] or [0, 255]
within two steps, so the pixel goes in unscaled there (less 128 for int8). A range close to those, but not on them,
comes from calibration with few pictures: then the nominal range is meant. A range of about [-2.12, 2.64] is that of
ImageNet's per-channel mean and deviation (as PyTorch's models use).

Float inputs say nothing: [-1, 1], which TensorFlow's MobileNets and Inceptions use (mean 127.5, deviation 127.5 in the
examples of https://ai.google.dev/edge/litert/models/metadata), is the commonest. Who needs another writes it into the
metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.model.tflite.metadata import Normalisation

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.signature import TensorSpec

# torchvision's ImageNet mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225), for pixels 0 to 255.
IMAGENET: Final = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_SYMMETRIC: Final = Normalisation((127.5,), (127.5,))
_UNIT: Final = Normalisation((0.0,), (255.0,))
_PIXELS: Final = Normalisation((0.0,), (1.0,))

_NEAR: Final = 0.1
_EXACT: Final = 0.008  # two steps of 255


def choose_normalisation(tensor: TensorSpec, written: Normalisation | None) -> Normalisation:
    """The normalisation for `tensor`: the one in the metadata where it can be meant, else derived as above."""
    if tensor.dtype == "float32":
        return written or _SYMMETRIC
    identity = Normalisation((0.0 - tensor.real_range[0] / tensor.scale,), (1.0 / tensor.scale,))
    meant = written if written is not None and _fits(tensor, written) else _nearest_known(tensor)
    if meant is None or (len(meant.mean) == len(meant.std) == 1 and _mismatch(tensor, meant) < _EXACT):
        return identity
    return meant


def _nearest_known(tensor: TensorSpec) -> Normalisation | None:
    known = min((_SYMMETRIC, _UNIT, _PIXELS, IMAGENET), key=lambda candidate: _mismatch(tensor, candidate))
    return known if _mismatch(tensor, known) < _NEAR else None


def _mismatch(tensor: TensorSpec, normalisation: Normalisation) -> float:
    """How far the ends of the tensor's range are from those of the pixels' range, in parts of the latter."""
    low, high = tensor.real_range
    pixel_low, pixel_high = _pixel_range(normalisation)
    return max(abs(low - pixel_low), abs(high - pixel_high)) / (pixel_high - pixel_low)


def _fits(tensor: TensorSpec, written: Normalisation) -> bool:
    """Whether `written` can be meant for the quantised tensor.

    Tools that copy pixels into quantised tensors as they are ignore it, and so some quantised models carry the
    placeholder mean 0, deviation 1: it would saturate nearly every pixel or use a sliver of the tensor's range.
    """
    low, high = tensor.real_range
    pixel_low, pixel_high = _pixel_range(written)
    shared = min(high, pixel_high) - max(low, pixel_low)
    return shared > 0.6 * (pixel_high - pixel_low) and shared > 0.1 * (high - low)


def _pixel_range(normalisation: Normalisation) -> tuple[float, float]:
    count = max(len(normalisation.mean), len(normalisation.std))
    means = normalisation.mean * (count // len(normalisation.mean))
    deviations = normalisation.std * (count // len(normalisation.std))
    pairs = list(zip(means, deviations, strict=True))
    return min((0 - mean) / std for mean, std in pairs), max((255 - mean) / std for mean, std in pairs)
