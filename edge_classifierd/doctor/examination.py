"""The doctor: checks everything that the daemon needs, one result each, without disturbing a running daemon."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edge_classifierd.config.loading.read_file import is_absent
from edge_classifierd.config.sections.paths import state_directory
from edge_classifierd.doctor.check_broker import check_absent_daemon, visit_broker
from edge_classifierd.doctor.check_camera import EXCLUSIVE, check_pipeline_camera
from edge_classifierd.doctor.check_machine import (
    check_board,
    check_clock,
    check_groups,
    check_outbox,
    check_watchdog,
    nearest_existing,
)
from edge_classifierd.doctor.check_models import check_blocked_model, check_model, check_tpus
from edge_classifierd.doctor.check_result import CheckResult, from_sentence
from edge_classifierd.doctor.check_runtime import check_runtime
from edge_classifierd.doctor.running_daemon import check_daemon, find_daemon
from edge_classifierd.errors import ConfigurationError, counted
from edge_classifierd.health.board import Board
from edge_classifierd.inference.edgetpu.devices import list_tpus, root_directory
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.pipeline.planning.validation import plan_pipelines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.pipeline.planning.plan import AnyPlan


def examine(config: Path, clock: Clock, *, optional: bool = False) -> Iterator[CheckResult]:
    """Check the configuration and everything that it names, then the machine. Yield each result when it is known.

    Args:
        config: The configuration file.
        clock: Tells whether the time is synchronised.
        optional: Whether a missing configuration is only a warning (a machine that has none yet).
    """
    document: Document | None = None
    plans: tuple[AnyPlan, ...] = ()
    if optional and is_absent(config):
        remedy = f"`edge-classifierd doctor --suggest` prints one for {config}"
        yield CheckResult(
            "configuration", "warning", f"{config}: does not exist, so cameras and broker are not known", remedy
        )
    else:
        try:
            document, plans = plan_pipelines(config)
        except ConfigurationError as error:
            for problem in error.problems:
                found = from_sentence("configuration", str(problem))
                yield found if found.remedy else replace(found, remedy="correct it")
        else:
            count = len(plans)
            yield CheckResult("configuration", "ok", f"{config}: {counted(count, 'pipeline')}")
            for problem in document.warnings:
                yield CheckResult("configuration", "warning", str(problem))
    root = root_directory()
    complete = tuple(plan for plan in plans if isinstance(plan, Plan))
    runtime = check_runtime()
    yield runtime
    yield from check_tpus(root, wanted=any(plan.bundle.edgetpu_compiled for plan in complete))
    yield check_groups(_groups(complete, root))
    if document is not None:
        yield from _configured(document, plans, clock, root, runtime)
    state = state_directory()
    existing = nearest_existing(state)
    yield from check_board(Board(clock, root=root, state=existing).read(), existing)
    yield check_clock(clock)
    yield check_watchdog()


def _configured(
    document: Document, plans: tuple[AnyPlan, ...], clock: Clock, root: Path, runtime: CheckResult
) -> Iterator[CheckResult]:
    """Check what the configuration names: broker, outbox, models and cameras."""
    configuration = document.configuration
    visit = visit_broker(configuration, clock)
    yield from visit.results
    daemon = find_daemon(configuration.outbox.path, state_directory())
    yield from [check_absent_daemon(visit.status)] if daemon is None else check_daemon(daemon)
    yield check_outbox(configuration.outbox.path, daemon)
    for plan in plans:
        if not isinstance(plan, Plan):
            yield check_blocked_model(plan)
            continue
        if runtime.verdict == "failed":  # loading a model could end this process too
            yield CheckResult(f"model {plan.section.name}", "failed", "not tested, because the runtime does not work")
        else:
            yield from check_model(plan, root, daemon=daemon)
        yield check_pipeline_camera(plan, clock, daemon=daemon)


def _groups(plans: tuple[Plan, ...], root: Path) -> list[str]:
    groups = ["video"] if any(plan.section.source.type in EXCLUSIVE for plan in plans) else []
    if any(plan.section.source.type == "picamera2" for plan in plans):
        groups.append("render")
    if any(plan.bundle.edgetpu_compiled for plan in plans) and any(tpu.kind == "usb" for tpu in list_tpus(root)):
        groups.append("plugdev")
    return groups
