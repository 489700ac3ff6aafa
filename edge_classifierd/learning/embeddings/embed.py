"""Computes embeddings of pictures: the values of a model just before its classification layer."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd import __version__
from edge_classifierd.errors import InferenceError, MissingError, ModelError
from edge_classifierd.inference.runtime import find_runtime, one_line
from edge_classifierd.learning.augment import varied
from edge_classifierd.learning.embeddings.cache import EmbeddingCache, key_of
from edge_classifierd.model.bundle import load_bundle, model_title, read_content
from edge_classifierd.model.options import NO_OPTIONS, ModelOptions
from edge_classifierd.model.tflite.embedding import find_embedding
from edge_classifierd.model.tflite.graph import read_graph
from edge_classifierd.model.tflite.head import PARTS, cut, own_scores, part
from edge_classifierd.model.tflite.writer import write_model
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.augment import Tensor
    from edge_classifierd.model.tflite.embedding import Embedding
    from edge_classifierd.model.tflite.graph import Graph
    from edge_classifierd.model.tflite.metadata import Metadata, Normalisation
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec
    from edge_classifierd.preprocess import Fit

_COMPILED_ENDING = "_edgetpu"


@dataclass(frozen=True, slots=True)
class Extractor:
    """A model whose embedding is used: the last tensor but one of a classifier, or the output of an embedding model."""

    path: Path
    graph: Graph
    embedding: Embedding
    input: TensorSpec
    output: TensorSpec
    normalisation: Normalisation
    metadata: Metadata
    labels: tuple[str, ...] | None
    """The classifier's own labels; None for an extractor."""
    edgetpu_compiled: bool


def load_extractor(path: Path, options: ModelOptions = NO_OPTIONS) -> Extractor:
    """Read a `.tflite` and find its embedding; loads no runtime. Raises ModelError that starts with the file's name."""
    try:
        labels = load_bundle(path, options=options).labels.names
    except ModelError:
        labels = None  # an extractor has none; other faults are found below
    content = read_content(path, options)
    signature, output = content.signature, content.outputs[0]
    layout = signature.input.layout
    if layout.channels != 3 or layout.channels_first:
        raise ModelError(f"{model_title(path)}: is no extractor for `train`: it needs one for RGB with channels last")
    try:
        signature.require_runnable()
        graph = read_graph(content.data)
        labelled = labels is not None or output.kind != "logits"
        metadata = content.metadata(output)
        return Extractor(
            path=path,
            graph=graph,
            embedding=find_embedding(graph, graph.outputs[output.position], labelled=labelled),
            input=signature.input,
            output=output.tensor,
            normalisation=content.preparation(metadata).normalisation,
            metadata=metadata,
            labels=labels,
            edgetpu_compiled=signature.edgetpu_compiled,
        )
    except ModelError as error:
        raise ModelError(f"{model_title(path)}: {error}") from error


def computable(extractor: Extractor) -> Extractor:
    """Return the extractor itself, or the CPU version beside it when it is compiled for the Edge TPU.

    The CPU version must have the same shapes and quantisation. Raises MissingError, ModelError.
    """
    if not extractor.edgetpu_compiled:
        return extractor
    twin_path = extractor.path.with_name(extractor.path.name.replace(_COMPILED_ENDING, ""))
    if twin_path == extractor.path or not twin_path.is_file():
        wanted = twin_path.name if twin_path != extractor.path else f"{extractor.path.stem}_cpu.tflite"
        raise MissingError(
            f"{extractor.path}: is compiled for the Edge TPU; put its CPU version `{wanted}` beside it: embeddings are "
            "computed with that, and what is learnt goes onto the compiled file"
        )
    twin = load_extractor(twin_path)
    if _interface(extractor) != _interface(twin):
        raise ModelError(f"{twin_path}: is not the CPU version of {extractor.path.name}: their tensors differ")
    # The compiled file computes the mean in 8 bits; this one must do the same.
    embedding = dataclasses.replace(twin.embedding, pooled_from=None)
    return dataclasses.replace(twin, normalisation=extractor.normalisation, embedding=embedding)


def _interface(extractor: Extractor) -> tuple[object, ...]:
    given, made = extractor.input, extractor.output
    return given.shape, given.dtype, made.dtype, made.scale, made.zero_point, extractor.embedding.features


class Embedder:
    """Prepares pictures as the daemon does (`prepare`), and computes their embeddings with the installed runtime.

    For one thread at a time. Raises as `Runtime` does.
    """

    def __init__(
        self,
        extractor: Extractor,
        *,
        fit: Fit,
        crop_fraction: float,
        threads: int,
        cache: EmbeddingCache | None = None,
    ) -> None:
        """Load the model. `cache` has embeddings of earlier trainings."""
        self._cache = cache or EmbeddingCache(None)
        self.channels = extractor.embedding.features
        scores = own_scores(extractor.graph, extractor.embedding)
        self.kinds = 0 if scores is None else math.prod(extractor.graph.tensors[scores].shape)
        """Number of the original classifier's classes, 0 for an extractor."""
        self._pooled = extractor.embedding.pooled_from is not None
        self._extractor = extractor
        self.prepare = Preprocessor(extractor.input, extractor.normalisation, fit=fit, crop_fraction=crop_fraction)
        runtime = find_runtime()
        self.runtime = str(runtime)
        with tempfile.TemporaryDirectory(prefix="edge-classifierd-") as folder:
            path = Path(folder) / extractor.path.name
            content = write_model(cut(extractor.graph, extractor.embedding, scores))
            path.write_bytes(content)
            self._interpreter = runtime.make_interpreter(path, threads)
        self._computes = key_of(content, f"{runtime} {__version__}".encode())
        self._input = int(self._interpreter.get_input_details()[0]["index"])
        outputs = self._interpreter.get_output_details()
        self._outputs = [int(output["index"]) for output in outputs]
        shapes = [tuple(map(int, output["shape"])) for output in outputs]
        self.columns = self.kinds + _columns(shapes[: -1 if self.kinds else None], pooled=self._pooled)
        """Length of an embedding."""

    def __call__(self, tensor: Tensor) -> NDArray[np.float32]:
        """Return the embedding of a picture that `prepare` returned; see `_compute`. Raises InferenceError."""
        return self._cache.get(key_of(self._computes, tensor.tobytes()), self.columns, lambda: self._compute(tensor))

    def of_copy(self, tensor: Tensor, number: int, *, seed: int, mirrored: bool) -> NDArray[np.float32]:
        """Return the embedding of a varied copy, which is the same for the same arguments. Raises InferenceError."""
        content = tensor.tobytes()

        def compute() -> NDArray[np.float32]:
            random = np.random.default_rng((seed, number, zlib.crc32(content)))
            return self._compute(varied(tensor, random, mirrored=mirrored))

        which = f"copy {number} of seed {seed}, mirrored: {mirrored}".encode()
        return self._cache.get(key_of(self._computes, content, which), self.columns, compute)

    def _compute(self, tensor: Tensor) -> NDArray[np.float32]:
        """Return the embedding of a picture that `prepare` returned.

        Shape (channels,), followed by the 3 × 3 parts of the detail map where there is one (see
        `model.tflite.head.Pooling`), and by the original classifier's logits (`kinds`). Raises InferenceError.
        """
        try:
            self._interpreter.set_tensor(self._input, tensor)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            sentence = f"{model_title(self._extractor.path)}: {self.runtime} failed to run it: {one_line(str(error))}"
            raise InferenceError(sentence) from error
        made = [np.asarray(self._interpreter.get_tensor(output), np.float32) for output in self._outputs]
        logits = [made.pop().reshape(-1)] if self.kinds else []
        if not self._pooled:
            return np.concatenate([made[0].reshape(-1), *logits])
        return np.concatenate([made[0][0].mean((0, 1)), *_parts(made[-1][0]), *logits])

    def without_kinds(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings without the original classifier's logits, which are the last columns."""
        return embeddings[..., : embeddings.shape[-1] - self.kinds]


def _columns(shapes: list[tuple[int, ...]], *, pooled: bool) -> int:
    """Return the length of an embedding without the logits, from the shapes of the outputs."""
    return shapes[0][-1] + PARTS**2 * shapes[-1][-1] if pooled else math.prod(shapes[0])


def _parts(detail: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    height, width, _ = detail.shape
    (tall, down), (wide, right) = part(height), part(width)
    corners = [(row * down, column * right) for row in range(PARTS) for column in range(PARTS)]
    return [detail[y : y + tall, x : x + wide].mean((0, 1)) for y, x in corners]
