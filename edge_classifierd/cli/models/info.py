"""The output of `models info`: the contents of a model file, as JSON and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_classifierd.model.inspection import Inspection
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec

_DECISIONS = {
    "options": "the options",
    "metadata": "the metadata",
    "quantisation": "the quantisation",
    "graph": "the arithmetic at the begin of the graph",
    "guess": "a guess",
}


@dataclass(frozen=True, slots=True)
class Runs:
    """Whether a model can run on this machine."""

    possible: bool
    sentence: str
    """`on the CPU`, or why it cannot."""


def runs_here(found: Inspection) -> Runs:
    """Run a model once in a child process; for one compiled for the Edge TPU see whether one is plugged in."""
    from edge_classifierd.errors import ModelError
    from edge_classifierd.inference.edgetpu.devices import list_tpus
    from edge_classifierd.inference.trial import try_model

    if found.cannot_run is not None:
        return Runs(possible=False, sentence=found.cannot_run)
    if found.edgetpu_compiled:
        tpus = ", ".join(map(str, list_tpus()))
        return Runs(possible=True, sentence=f"on the Edge TPU only ({tpus or 'none is plugged in'})")
    try:
        try_model(found)
    except ModelError as error:
        return Runs(possible=False, sentence=str(error).removeprefix(f"{found.path}: "))
    return Runs(possible=True, sentence="on the CPU")


def info_document(found: Inspection, runs: Runs) -> dict[str, Any]:
    """Return the facts as a JSON document."""
    metadata, layout = found.metadata, found.input.layout
    return {
        "file": str(found.path),
        "bytes": found.size,
        "edgetpu": found.edgetpu_compiled,
        "runs_here": runs.possible,
        "runs": runs.sentence,
        "input": {
            **_tensor(found.input),
            "height": layout.height,
            "width": layout.width,
            "channels": layout.channels,
            "channels_first": layout.channels_first,
        },
        "output": {**_tensor(found.output), "number": found.output_position, "kind": found.output_kind},
        "outputs": [{"number": one.position, "names": list(one.names), "scores": one.classes} for one in found.outputs],
        "operators": found.operators,
        "multiply_adds": found.multiply_adds,
        "metadata": {
            "name": metadata.name,
            "description": metadata.description,
            "version": metadata.version,
            "author": metadata.author,
            "licence": metadata.licence,
        },
        "labels": None if found.labels is None else list(found.labels.display),
        "labels_source": found.labels_source,
        "labels_trouble": found.labels_trouble,
        "mean": list(found.normalisation.mean),
        "std": list(found.normalisation.std),
        "channels": found.normalisation.channels,
        "preparation": found.preparation,
        "decided_by": found.decided_by,
        "reason": found.reason,
        "warning": found.warning,
    }


def info_text(document: dict[str, Any]) -> str:
    """Return the facts as text, one line for each."""
    labels = document["labels"]
    operators = document["operators"]
    cost = document["multiply_adds"]
    lines = [
        f"{document['file']}: {document['bytes']:,} bytes, "
        + ("compiled for the Edge TPU" if document["edgetpu"] else "for the CPU"),
        f"runs here    {document['runs'] if document['runs_here'] else 'no: ' + document['runs']}",
        f"input        {_tensor_text(document['input'])}",
        f"output       {_tensor_text(document['output'])}, {document['output']['kind'].replace('_', ' ')}",
    ]
    if len(document["outputs"]) > 1:
        listed = ", ".join(f"{one['number']}: {one['names'][-1]} ({one['scores']:,})" for one in document["outputs"])
        lines.append(f"outputs      {listed}")
    if labels is None:
        lines.append(f"labels       none: {document['labels_trouble']}")
    else:
        shown = "; ".join(labels[:5]) + ("; …" if len(labels) > 5 else "")
        lines.append(f"labels       {len(labels):,}: {shown} (from {document['labels_source']})")
    if operators is not None:
        counted = ", ".join(f"{count} {name}" for name, count in operators.items())
        lines.append(f"operators    {sum(operators.values())}: {counted}")
    unknown = "hidden in the compiled part" if document["edgetpu"] else "not known"
    work = unknown if cost is None else f"{cost / 1e6:,.1f} million multiply-adds an inference"
    lines.append(f"work         {work}")
    lines += [f"{key:<12} {value}" for key, value in document["metadata"].items() if value]
    lines += [
        f"preparation  {document['preparation']}",
        f"decided by   {_DECISIONS[document['decided_by']]}: {document['reason']}",
    ]
    if document["warning"] is not None:
        lines.append(f"warning      {document['warning']}")
    return "\n".join(lines)


def _tensor(tensor: TensorSpec) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


def _tensor_text(tensor: dict[str, Any]) -> str:
    shape = ", ".join(map(str, tensor["shape"]))
    if tensor["dtype"] == "float32":
        return f"{tensor['name']} ({shape}) float32"
    quantised = f"scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"
    return f"{tensor['name']} ({shape}) {tensor['dtype']}, {quantised}"
