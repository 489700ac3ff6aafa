"""The classifier that computes on the CPU, in this process."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_classifierd.errors import InferenceError, MissingError
from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.runtime import edgetpu_sentence, one_line
from edge_classifierd.inference.scores import Scores
from edge_classifierd.memory_maps import release_file
from edge_classifierd.model.bundle import model_title

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edge_classifierd.inference.runtime import Interpreter, Runtime
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.preprocess import Tensor


class CpuClassifier(Classifier):
    """Loads the model and runs it once, so that a model that cannot run fails here and not with the first frame.

    Raises ModelError when the runtime cannot load the model, MissingError when it is compiled for the Edge TPU,
    InferenceError when the first inference fails.
    """

    runtime = ""
    accelerator = "cpu"

    def __init__(self, bundle: ModelBundle, runtime: Runtime, threads: int) -> None:
        if bundle.edgetpu_compiled:
            raise MissingError(edgetpu_sentence(bundle.path))
        self.runtime = str(runtime)
        self._title = model_title(bundle.path)
        self._shape = bundle.input.shape
        self._dtype = np.dtype(bundle.input.dtype)
        # What the file describes. The runtime computes the type and shape of some outputs itself, so they can differ.
        self._output_dtype = np.dtype(bundle.output.dtype)
        self._output_size = math.prod(bundle.output.shape)
        self._described = f"{bundle.output.shape} {bundle.output.dtype}"
        self._scores = Scores(bundle.output, bundle.output_kind)
        self._interpreter: Interpreter | None = runtime.make_interpreter(
            bundle.path, threads, input_shape=bundle.input.shape
        )
        self._input_index = int(self._interpreter.get_input_details()[0]["index"])
        self._output_index = int(self._interpreter.get_output_details()[bundle.output_position]["index"])
        self.classify(np.zeros(self._shape, self._dtype))
        release_file(bundle.path)

    def classify(self, tensor: Tensor) -> Inference:
        """Classify one input tensor of exactly the model's shape and dtype. Raises InferenceError."""
        return self.run(tensor)()

    def run(self, tensor: Tensor) -> Callable[[], Inference]:
        """Run the graph on a tensor; the returned function computes the confidences. Both raise InferenceError."""
        interpreter = self._interpreter
        if interpreter is None:
            raise ValueError("the classifier is closed")
        if tensor.shape != self._shape or tensor.dtype != self._dtype:
            raise ValueError(f"a tensor {tensor.shape} {tensor.dtype} for a model of {self._shape} {self._dtype}")
        try:
            interpreter.set_tensor(self._input_index, tensor)
            start = time.perf_counter()
            interpreter.invoke()
            inference_ms = (time.perf_counter() - start) * 1000.0
            raw = interpreter.get_tensor(self._output_index)
        except (RuntimeError, ValueError) as error:
            raise InferenceError(f"{self._title}: {self.runtime} failed to run it: {one_line(str(error))}") from error
        if raw.dtype != self._output_dtype or raw.size != self._output_size:
            raise InferenceError(
                f"{self._title}: its output is {raw.shape} {raw.dtype}, but the file describes {self._described}; "
                "convert the model again"
            )
        return partial(self._read, raw, inference_ms)

    def invoke(self) -> None:
        """Run the graph on the tensor of the last `classify` and do nothing else; for the benchmark."""
        if self._interpreter is None:
            raise ValueError("the classifier is closed")
        self._interpreter.invoke()

    def close(self) -> None:
        """Release the runtime's memory; may be called twice."""
        self._interpreter = None

    def _read(self, raw: NDArray[Any], inference_ms: float) -> Inference:
        return Inference(self._scores.confidences(raw), inference_ms, self.accelerator)
