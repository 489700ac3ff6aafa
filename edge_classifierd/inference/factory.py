"""Which classifier runs a model: the choice of device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import EdgeClassifierError, MissingError
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.cpu_pool import CpuPool, share_out
from edge_classifierd.inference.runtime import find_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.inference.base import Classifier
    from edge_classifierd.inference.edgetpu.cpu_fallback import CpuFallback
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
    from edge_classifierd.inference.edgetpu.devices import Selector
    from edge_classifierd.model.bundle import ModelBundle


def make_classifier(
    bundle: ModelBundle,
    device: str = "auto",
    threads: int = 1,
    *,
    instances: int | None = 1,
    cpu_bundle: ModelBundle | None = None,
    edgetpu: EdgeTpuSettings | None = None,
    clock: Clock | None = None,
    root: Path | None = None,
) -> Classifier:
    """A loaded, warmed-up classifier on `device`: `auto`, `cpu`, `edgetpu`, `usb`, `usb:0`, `pci`, `pci:0`.

    `auto` uses an Edge TPU when there is one and the model is compiled for it, else `cpu_bundle`, else the model.
    On the CPU that many `instances` classify side by side and share the `threads`; None: as many as suit the model.
    With `cpu_bundle` an Edge TPU may be missing or fail, at the start and later; what is returned is then `Accelerated`
    too. `root` stands in for `/` in tests. Raises ModelError, MissingError, InferenceError; UsageError for `device`.
    """
    if device in {"auto", "cpu"} and not bundle.edgetpu_compiled:
        # The common case, which needs none of what an Edge TPU brings along.
        return _on_cpu(bundle, threads, instances)
    from edge_classifierd.inference.edgetpu.cpu_fallback import CpuFallback, check_twin  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings, check_compiled  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.devices import Selector, list_tpus  # noqa: PLC0415

    selector = None if device in {"auto", "cpu"} else Selector.parse(device)
    if cpu_bundle is not None and bundle.edgetpu_compiled:
        check_twin(bundle, cpu_bundle)
    if selector is not None:
        check_compiled(bundle)
    elif device == "cpu":
        return _on_cpu(cpu_bundle or bundle, threads, instances)
    elif cpu_bundle is None and not list_tpus(root):
        raise MissingError(
            f"{bundle.path}: is compiled for the Edge TPU and none is plugged in; plug one in, "
            "or give the CPU version of the model (the file without `_edgetpu` in its name), "
            "in a configuration as `model.cpu_model`"
        )
    twin = None if cpu_bundle is None else CpuFallback(CpuClassifier(cpu_bundle, find_runtime(), threads))
    settings = edgetpu or EdgeTpuSettings()
    return _on_tpus(bundle, selector, settings, clock=clock or SystemClock(), twin=twin, root=root)


def _on_cpu(bundle: ModelBundle, threads: int, instances: int | None) -> Classifier:
    members = [CpuClassifier(bundle, find_runtime(), each) for each in share_out(threads, instances, bundle.size)]
    return members[0] if len(members) == 1 else CpuPool(members)


def _on_tpus(
    bundle: ModelBundle,
    selector: Selector | None,
    settings: EdgeTpuSettings,
    *,
    clock: Clock,
    twin: CpuFallback | None,
    root: Path | None,
) -> Classifier:
    """One failover per Edge TPU, in a pool when there are several; closes what was made when one cannot be."""
    from edge_classifierd.inference.edgetpu.devices import Selector  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.failover import FailoverClassifier  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.pool import EdgeTpuPool  # noqa: PLC0415

    members: list[FailoverClassifier] = []
    try:
        for _ in range(settings.count):
            members.append(  # noqa: PERF401 - those made so far must be closed when one fails
                FailoverClassifier(
                    bundle,
                    selector or Selector(None, None),
                    settings,
                    clock,
                    twin=twin,
                    optional=selector is None,
                    meanwhile="the others go on" if settings.count > 1 else "classifying on the CPU meanwhile",
                    root=root,
                )
            )
    except EdgeClassifierError:
        for member in members:
            member.close()
        if twin is not None:
            twin.close()
        raise
    return members[0] if len(members) == 1 else EdgeTpuPool(members)
