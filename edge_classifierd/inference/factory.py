"""Creates the classifier of a model on the chosen device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import EdgeClassifierError, MissingError
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.cpu_pool import CpuPool, share_threads
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.inference.shared import SharedClassifier

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.inference.base import Classifier
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
    """Load a model and run it once.

    Args:
        bundle: The model.
        device: `auto`, `cpu`, `edgetpu`, `usb`, `usb:0`, `pci` or `pci:0`. `auto` uses an Edge TPU when one is plugged
            in and the model is compiled for it, else `cpu_bundle`, else the model on the CPU.
        threads: On the CPU, for all instances together.
        instances: Interpreters on the CPU that classify at the same time; None chooses a number that suits the model.
        cpu_bundle: The CPU version of a compiled model. With it the Edge TPU may be missing or fail at any time.
        edgetpu: How the Edge TPU is used.
        clock: Replaced in tests.
        root: Directory that stands in for `/` in tests.

    Raises:
        ModelError, MissingError, InferenceError: The model cannot run.
        UsageError: `device` is unknown.
    """
    if device in {"auto", "cpu"} and not bundle.edgetpu_compiled:
        return _on_cpu(bundle, threads, instances)
    # Imported here: most installations have no Edge TPU.
    from edge_classifierd.inference.edgetpu.cpu_fallback import check_cpu_model  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings, check_compiled  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.devices import Selector, list_tpus  # noqa: PLC0415

    selector = None if device in {"auto", "cpu"} else Selector.parse(device)
    if cpu_bundle is not None and bundle.edgetpu_compiled:
        check_cpu_model(bundle, cpu_bundle)
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
    fallback = None
    if cpu_bundle is not None:
        fallback = SharedClassifier(CpuClassifier(cpu_bundle, find_runtime(), threads))
    settings = edgetpu or EdgeTpuSettings()
    return _on_tpus(bundle, selector, settings, clock=clock or SystemClock(), fallback=fallback, root=root)


def _on_cpu(bundle: ModelBundle, threads: int, instances: int | None) -> Classifier:
    shares = share_threads(threads, instances, bundle.size)
    members = [CpuClassifier(bundle, find_runtime(), share) for share in shares]
    return members[0] if len(members) == 1 else CpuPool(members)


def _on_tpus(
    bundle: ModelBundle,
    selector: Selector | None,
    settings: EdgeTpuSettings,
    *,
    clock: Clock,
    fallback: SharedClassifier | None,
    root: Path | None,
) -> Classifier:
    """Create one FailoverClassifier per Edge TPU, in a pool when there are several; when one fails close the others."""
    from edge_classifierd.inference.edgetpu.devices import Selector  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.failover import FailoverClassifier  # noqa: PLC0415
    from edge_classifierd.inference.edgetpu.pool import EdgeTpuPool  # noqa: PLC0415

    members: list[FailoverClassifier] = []
    try:
        for _ in range(settings.count):
            members.append(  # noqa: PERF401 - those created so far must be closed when one fails
                FailoverClassifier(
                    bundle,
                    selector or Selector(None, None),
                    settings,
                    clock,
                    fallback=fallback,
                    optional=selector is None,
                    meanwhile="the others go on" if settings.count > 1 else "classifying on the CPU meanwhile",
                    root=root,
                )
            )
    except EdgeClassifierError:
        for member in members:
            member.close()
        if fallback is not None:
            fallback.close()
        raise
    return members[0] if len(members) == 1 else EdgeTpuPool(members)
