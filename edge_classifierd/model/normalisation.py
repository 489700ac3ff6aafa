"""Decides how pixels become a model's input values, in this order.

1. The user's options.
2. Metadata in the file: TensorFlow Lite metadata, or that of the exporting tool (see `exporter`). For a quantised input
   it must suit the range of the tensor: some models carry the placeholder mean 0, deviation 1.
3. Quantisation: where the 256 values of the tensor span [-1, 1], [0, 1] or [0, 255] within two steps, the pixel goes in
   as it is (less 128 for int8). Coral's classifiers (and pycoral's classify example, mean 128, deviation 128) are made
   for that, although their metadata says 127.5. A range near one of these comes from calibration with few pictures:
   then the nominal range is used. About [-2.12, 2.64] is that of ImageNet's mean and deviation (PyTorch's models). The
   same holds where the graph quantises a float input first.
4. Arithmetic by constants at the begin of the graph: the input range that it turns into a usual range.
5. A guess, with a warning. Small weights of the first layer hint at pixels from 0 to 255 (converters put the arithmetic
   into them); else [-1, 1], which TensorFlow's MobileNets and Inceptions and Teachable Machine use, or [0, 1] for
   greyscale, for channels first and for Edge Impulse.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edge_classifierd.model.options import NO_OPTIONS, ModelOptions
from edge_classifierd.model.tflite.metadata import Normalisation

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.leading_arithmetic import GraphHead
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec

# torchvision's ImageNet mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225), for pixels 0 to 255.
IMAGENET: Final = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
SYMMETRIC: Final = Normalisation((127.5,), (127.5,))
UNIT: Final = Normalisation((0.0,), (255.0,))
PIXELS: Final = Normalisation((0.0,), (1.0,))
RANGE_NAMES: Final = {SYMMETRIC: "[-1, 1]", UNIT: "[0, 1]", PIXELS: "0…255", IMAGENET: "ImageNet's mean and deviation"}

DecidedBy = Literal["options", "metadata", "quantisation", "graph", "guess"]

_NEAR: Final = 0.1
_EXACT: Final = 0.008  # two steps of 255
# What the first layer of a network usually gets.
_USUAL_RANGES: Final = ((0.0, 1.0), (-1.0, 1.0), (-0.5, 0.5), (-2.118, 2.64))
_SMALL_FILTERS: Final = 0.05
"""Norm of filters that suit pixels up to 255: 0.002 to 0.02 was measured for such models, 0.4 and more for others."""
_LARGEST_MEAN_FREE: Final = (-140.0, 170.0)  # of pixels less a mean, as Caffe's networks get them
_EDGE_IMPULSE_INPUT: Final = "serving_default_x:0"


@dataclass(frozen=True, slots=True)
class Preparation:
    """How pixels become input values, and why."""

    normalisation: Normalisation
    decided_by: DecidedBy
    reason: str
    """One sentence without its subject: `its metadata says so`."""


@dataclass(frozen=True, slots=True)
class Written:
    """A normalisation that the file contains."""

    normalisation: Normalisation
    source: str
    """`its metadata`, `its Ultralytics metadata`."""


def decide_preparation(
    tensor: TensorSpec,
    *,
    options: ModelOptions = NO_OPTIONS,
    written: Written | None = None,
    head: GraphHead | None = None,
) -> Preparation:
    """Decide how pixels become the values of `tensor`, in the order above."""
    found = _from_file(tensor, written, head)
    channels = options.channels or found.normalisation.channels
    if options.mean is not None or options.std is not None:
        given = Normalisation(options.mean or (0.0,), options.std or (1.0,), channels)
        return Preparation(given, "options", "`model.input` or the command line gives it")
    if options.channels is not None:
        given = dataclasses.replace(found.normalisation, channels=channels)
        return Preparation(given, found.decided_by, f"{found.reason}; the order of the channels is given")
    return found


def _from_file(tensor: TensorSpec, written: Written | None, head: GraphHead | None) -> Preparation:
    if tensor.dtype in {"uint8", "int8"}:
        return _quantised(tensor, written)
    if written is not None:
        return Preparation(written.normalisation, "metadata", f"{written.source} says so")
    if tensor.dtype == "int16":
        known = _nearest_known(tensor.real_range)
        if known is not None and known != SYMMETRIC:  # int16 is always symmetric: it suits [0, 1] as well
            return Preparation(known, "quantisation", f"{_spans(tensor)}, the range of {RANGE_NAMES[known]}")
    return _from_graph(head) or _from_inner_quantisation(head) or _guess(tensor, head)


def _quantised(tensor: TensorSpec, written: Written | None) -> Preparation:
    low, _ = tensor.real_range
    identity = Normalisation((0.0 - low / tensor.scale,), (1.0 / tensor.scale,))
    fitting = written if written is not None and _fits(tensor, written.normalisation) else None
    chosen = fitting.normalisation if fitting is not None else _nearest_known(tensor.real_range)
    if chosen is None or (len(chosen.mean) == len(chosen.std) == 1 and _mismatch(tensor.real_range, chosen) < _EXACT):
        ignored = ", whatever mean and deviation its metadata contains" if written is not None else ""
        reason = f"{_spans(tensor)}, the whole range of pixels: it takes the pixel as it is{ignored}"
        return Preparation(identity, "quantisation", reason)
    if fitting is not None:
        return Preparation(chosen, "metadata", f"{fitting.source} says so, and {_spans(tensor)}")
    return Preparation(chosen, "quantisation", f"{_spans(tensor)}, which is near the range of {RANGE_NAMES[chosen]}")


def _from_graph(head: GraphHead | None) -> Preparation | None:
    if head is None or not head.arithmetic:
        return None
    computed = f"its graph begins with {_expression(head)}"
    fits = {candidate: _misfit(head, candidate) for candidate in (PIXELS, UNIT, SYMMETRIC)}
    best = min(fits, key=lambda candidate: fits[candidate])
    if fits[best] > _NEAR:
        low, high = head.output_range(0, 255)
        steps = (high - low) / 255
        mean_free = low >= _LARGEST_MEAN_FREE[0] and high <= _LARGEST_MEAN_FREE[1] and low < -50 and steps > 0.5
        if not mean_free and not 0.2 <= high - low <= 20:
            return None
        best = PIXELS
    return Preparation(best, "graph", f"{computed}, which is made for pixels of {RANGE_NAMES[best]}")


def _from_inner_quantisation(head: GraphHead | None) -> Preparation | None:
    """Return the decision where the graph quantises a float input first."""
    known = None if head is None or head.quantised_range is None else _nearest_known(head.quantised_range)
    if known is None or head is None or head.quantised_range is None:
        return None
    low, high = head.quantised_range
    reason = f"its graph quantises the input to [{low:.3g}, {high:.3g}], near the range of {RANGE_NAMES[known]}"
    return Preparation(known, "quantisation", reason)


def _misfit(head: GraphHead, candidate: Normalisation) -> float:
    """Return the distance of the range after the arithmetic from the nearest usual range, relative to its width."""
    low, high = head.output_range(*_pixel_range(candidate))
    return min(max(abs(low - start), abs(high - end)) / (end - start) for start, end in _USUAL_RANGES)


def _guess(tensor: TensorSpec, head: GraphHead | None) -> Preparation:
    if head is not None and head.filter_norm is not None and head.filter_norm < _SMALL_FILTERS:
        reason = "nothing in the file says so, but the small weights of its first layer suit pixels of 0…255"
        return Preparation(PIXELS, "guess", reason)
    layout = tensor.layout
    for applies, what in (
        (tensor.name == _EDGE_IMPULSE_INPUT, "its input has the name that Edge Impulse gives"),
        (layout.channels == 1, "most greyscale models take it"),
        (layout.channels_first, "many models with channels first take it"),
    ):
        if applies:
            return Preparation(UNIT, "guess", f"nothing in the file says so, but {what}")
    return Preparation(SYMMETRIC, "guess", "nothing in the file says so, but most float models take it")


def _expression(head: GraphHead) -> str:
    scale, offset = head.scale[0], head.offset[0]
    shift = "" if not any(head.offset) else f" {'+' if offset >= 0 else '-'} {abs(offset):.4g}"
    each = " (for its first channel)" if len(head.scale) > 1 or len(head.offset) > 1 else ""
    return f"{scale:.4g} * x{shift}{each}"


def _spans(tensor: TensorSpec) -> str:
    low, high = tensor.real_range
    return f"its {tensor.dtype} input spans [{low:.3g}, {high:.3g}]"


def _nearest_known(real_range: tuple[float, float]) -> Normalisation | None:
    known = min(RANGE_NAMES, key=lambda candidate: _mismatch(real_range, candidate))
    return known if _mismatch(real_range, known) < _NEAR else None


def _mismatch(real_range: tuple[float, float], normalisation: Normalisation) -> float:
    """Return the distance of a tensor's range from that of the pixels, relative to the latter."""
    low, high = real_range
    pixel_low, pixel_high = _pixel_range(normalisation)
    return max(abs(low - pixel_low), abs(high - pixel_high)) / (pixel_high - pixel_low)


def _fits(tensor: TensorSpec, written: Normalisation) -> bool:
    """Return whether `written` suits the tensor: else it would saturate most pixels, or use few of the values."""
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
