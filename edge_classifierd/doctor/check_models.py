"""Checks the Edge TPUs and the first inferences of each model."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.config.sections.paths import state_directory
from edge_classifierd.doctor.check_result import CheckResult, from_sentence
from edge_classifierd.errors import EdgeClassifierError, FetchError, MissingError, counted
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.cpu_pool import share_threads
from edge_classifierd.inference.edgetpu.delegate import open_tpu
from edge_classifierd.inference.edgetpu.device_lock import BusyError, claim
from edge_classifierd.inference.edgetpu.devices import Selector, list_tpus, read_temperature
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.inference.trial import try_model
from edge_classifierd.model.download import Wanted, probe
from edge_classifierd.model.store import NotFetchedError, fetched_file
from edge_classifierd.pipeline.classifiers import edgetpu_settings
from edge_classifierd.pipeline.planning.fetched_models import remote_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_classifierd.doctor.running_daemon import RunningDaemon
    from edge_classifierd.inference.base import Classifier
    from edge_classifierd.inference.edgetpu.devices import Tpu
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.pipeline.planning.plan import BlockedPlan, Plan

_INFERENCES: Final = 10


def check_tpus(root: Path, *, wanted: bool) -> list[CheckResult]:
    """Return a result for each Edge TPU that the kernel lists, or one result when there is none."""
    tpus = list_tpus(root)
    if not tpus:
        if wanted:
            return [CheckResult("edge tpu", "warning", "none is plugged in", "see docs/edge-tpu.md for its driver")]
        return [CheckResult("edge tpu", "unused", "none is plugged in, and no model needs one")]
    return [_tpu(tpu, root) for tpu in tpus]


def check_blocked_model(plan: BlockedPlan) -> CheckResult:
    """Return why a model cannot be used; ask the server for one that is still to be fetched."""
    name = f"model {plan.section.name}"
    remote = remote_model(plan.section.model)
    if remote is None:
        return from_sentence(name, plan.reason)
    try:
        fetched_file(state_directory(), remote)
    except NotFetchedError:
        try:
            probe(Wanted(remote.url, remedy="check `url` and the server", shown=remote.shown))
        except FetchError as error:
            return from_sentence(name, str(error))
        said = f"{remote.title} is not on this device yet; {remote.shown} delivers it"
        return CheckResult(name, "warning", said, "the daemon fetches it when it runs")
    return from_sentence(name, plan.reason)


def check_model(plan: Plan, root: Path, *, daemon: RunningDaemon | None) -> list[CheckResult]:
    """Load each model of a pipeline on its device and measure some inferences."""
    name = f"model {plan.section.name}"
    model = plan.section.model
    if not plan.bundle.edgetpu_compiled:
        return [_timed_on_cpu(name, plan.bundle, share_threads(model.threads, model.instances, plan.bundle.size))]
    results = []
    if plan.cpu_bundle is not None:
        alone = model.device == "cpu"  # as a fallback it runs one inference at a time
        shares = share_threads(model.threads, model.instances, plan.cpu_bundle.size) if alone else (model.threads,)
        results.append(_timed_on_cpu(f"{name} (cpu_model)", plan.cpu_bundle, shares))
    if model.device == "cpu":
        return results
    selector = Selector(None, None) if model.device == "auto" else Selector.parse(model.device)
    candidates = [tpu for tpu in list_tpus(root) if selector.matches(tpu)]
    if not candidates:
        remedy = "plug one in, or see docs/edge-tpu.md for its driver"
        if plan.cpu_bundle is not None:
            said = f"no Edge TPU is plugged in (device {model.device}): `cpu_model` runs on the CPU"
            return [*results, CheckResult(name, "warning", said, remedy)]
        said = f"is compiled for the Edge TPU and none is plugged in (device {model.device})"
        return [*results, CheckResult(name, "failed", said, f"{remedy}, or give `cpu_model`", missing=True)]
    return [*results, _timed_on_tpu(name, plan, candidates, root, daemon=daemon)]


def _timed_on_cpu(name: str, bundle: ModelBundle, shares: tuple[int, ...]) -> CheckResult:
    threads = shares[0]
    try:
        try_model(bundle)  # in a child process, because the runtime may crash
        classifier = CpuClassifier(bundle, find_runtime(), threads)
    except EdgeClassifierError as error:
        return from_sentence(name, str(error), missing=isinstance(error, MissingError))
    where = counted(threads, "thread")
    return _timed(name, bundle, classifier, f"{where}, {len(shares)} side by side" if len(shares) > 1 else where)


def _timed_on_tpu(
    name: str, plan: Plan, candidates: Sequence[Tpu], root: Path, *, daemon: RunningDaemon | None
) -> CheckResult:
    busy: BusyError | None = None
    for tpu in candidates:
        try:
            lease = claim(tpu, root)
        except BusyError as error:
            busy = error
            continue
        try:
            classifier = open_tpu(plan.bundle, lease, edgetpu_settings(plan.section.model.edgetpu))
            return _timed(name, plan.bundle, classifier, f"{tpu}, {classifier.runtime}")
        except EdgeClassifierError as error:
            return from_sentence(name, str(error), missing=isinstance(error, MissingError))
        finally:
            lease.close()
    assert busy is not None
    if daemon is not None:
        return _reported(name, plan.section.name, daemon)
    return from_sentence(name, str(busy))


def _reported(name: str, pipeline: str, daemon: RunningDaemon) -> CheckResult:
    """Return the result from the health of the running daemon, which uses the Edge TPU."""
    reported = None if daemon.health is None else daemon.health.pipelines.get(pipeline)
    if reported is None or reported.accelerator is None:
        said = "its Edge TPU is in use by the running daemon, which does not report the device: not tested"
        return CheckResult(name, "warning", said, "see the line `daemon`, or stop the daemon to test the Edge TPU")
    if reported.accelerator == "cpu":
        reason = f" ({reported.reasons[0]})" if reported.reasons else ""
        return CheckResult(name, "warning", f"the running daemon uses the CPU{reason}")
    return CheckResult(name, "ok", f"the running daemon uses {reported.accelerator}")


def _timed(name: str, bundle: ModelBundle, classifier: Classifier, where: str) -> CheckResult:
    blank = np.zeros(bundle.input.shape, bundle.input.dtype)
    try:
        times_ms = [classifier.classify(blank).inference_ms for _ in range(_INFERENCES)]
    except EdgeClassifierError as error:
        return from_sentence(name, str(error))
    finally:
        classifier.close()
    said = f"{bundle.name} runs, {statistics.median(times_ms):.1f} ms an inference ({where})"
    return CheckResult(name, "ok", said)


def _tpu(tpu: Tpu, root: Path) -> CheckResult:
    name = f"edge tpu {tpu}"
    node = _node(tpu, root)
    if node is not None and node.exists() and not os.access(node, os.R_OK | os.W_OK):
        remedy = 'add the service user to the group "plugdev" and install the udev rules (docs/edge-tpu.md)'
        return CheckResult(name, "failed", f"{node}: permission denied", remedy)
    temperature = read_temperature(tpu, root)
    heat = "" if temperature is None else f", {temperature.temperature_c:.0f} °C, {temperature.clock_mhz:g} MHz"
    return CheckResult(name, "ok", f"plugged in at {tpu.port}{heat}")


def _node(tpu: Tpu, root: Path) -> Path | None:
    if tpu.kind == "pci":
        return root / "dev" / tpu.port
    folder = root / "sys/bus/usb/devices" / tpu.port
    try:
        bus, number = (int((folder / name).read_text(encoding="ascii")) for name in ("busnum", "devnum"))
    except (OSError, ValueError):
        return None
    return root / f"dev/bus/usb/{bus:03d}/{number:03d}"
