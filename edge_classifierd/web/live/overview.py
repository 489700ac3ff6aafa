"""The documents of pipelines: the overview, and the parts of it that the stream sends when they change."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.clock import timestamp
from edge_classifierd.inference.scores import top_k
from edge_classifierd.pipeline.planning.plan import Plan, configured_region
from edge_classifierd.web.live.results import frame_number

if TYPE_CHECKING:
    from edge_classifierd.config.sections.pipeline import RegionSection
    from edge_classifierd.pipeline.observation.control import PipelineView, Resting
    from edge_classifierd.pipeline.observation.observer import ObservedFrame
    from edge_classifierd.pipeline.planning.plan import AnyPlan
    from edge_classifierd.preprocess import Region
    from edge_classifierd.web.parts import Parts

_MOST_TOP: Final = 5


def pipeline_document(parts: Parts, view: PipelineView) -> dict[str, Any]:
    """Return one pipeline of the overview."""
    plan, newest = view.plan, parts.results.newest(view.name)
    observed = newest[1] if newest is not None else None
    figures, settings = view.figures, settings_document(view)
    return {
        **status_document(view),
        **settings,
        "name": view.name,
        "fps": None if figures.fps is None else round(figures.fps, 2),
        "inference_ms": None if figures.inference_ms is None else round(figures.inference_ms.p50, 2),
        "accelerator": figures.accelerator,
        "frame": None if observed is None else {"width": observed.width, "height": observed.height},
        "seen": _seen(plan, observed),
        "model": _model(plan),
        "top": [] if newest is None else top_document(*newest),
        "watches": [_with_state(watch, observed, parts) for watch in settings["watches"]],
    }


def status_document(view: PipelineView) -> dict[str, Any]:
    """Return whether a pipeline runs, and why it does not."""
    return {
        "pipeline": view.name,
        "enabled": view.enabled,
        "online": view.online,
        "offline_reason": view.offline_reason,
        "resting": _resting_document(view.resting),
    }


def settings_document(view: PipelineView) -> dict[str, Any]:
    """Return the values of a pipeline that can be changed, and which of them differ from the configuration."""
    plan, commands = view.plan, view.commands
    labels = {watch.name: list(watch.labels) for watch in plan.section.watches}
    watches = []
    overridden = [name for name in ("enabled", "region", "model") if getattr(commands, name) is not None]
    for rule in plan.rules:
        threshold = commands.thresholds.get(rule.name, rule.threshold)
        if rule.name in commands.thresholds:
            overridden.append(f"{rule.name}.threshold")
        watches.append(
            {
                "name": rule.name,
                "labels": labels.get(rule.name),
                "threshold": threshold,
                "configured_threshold": rule.threshold,
                "release": min(rule.release, threshold),
                "confirm": rule.confirm,
            }
        )
    return {
        "pipeline": view.name,
        "region": region_document(commands.region or configured_region(plan)),
        "watches": watches,
        "overridden": overridden,
    }


def scores_document(parts: Parts, pipeline: str) -> dict[str, Any] | None:
    """Return the scores of the newest classified frame; None without one."""
    newest = parts.results.newest(pipeline)
    if newest is None:
        return None
    plan, observed = newest
    return {
        "pipeline": pipeline,
        "frame": frame_number(observed.captured_s),
        "captured": timestamp(observed.captured_at),
        "top": top_document(plan, observed),
        "watches": {name: [round(state.confidence, 4), state.active] for name, state in observed.watches.items()},
        "resting": _resting_document(parts.control.resting(pipeline)),
    }


def region_document(region: Region | RegionSection) -> dict[str, float]:
    """Return a rectangle in fractions of the upright picture."""
    values = {"x": region.x, "y": region.y, "width": region.width, "height": region.height}
    return {name: round(value, 4) for name, value in values.items()}


def _with_state(watch: dict[str, Any], observed: ObservedFrame | None, parts: Parts) -> dict[str, Any]:
    """Return a watch with its state after the newest frame."""
    state = observed.watches.get(watch["name"]) if observed is not None else None
    since = None
    if state is not None and state.since_s is not None:
        age = timedelta(seconds=parts.clock.monotonic() - state.since_s)
        since = timestamp(parts.clock.utc() - age)
    return {
        **watch,
        "on": state is not None and state.active,
        "since": since,
        "confidence": None if state is None else round(state.confidence, 4),
    }


def _resting_document(resting: Resting | None) -> dict[str, Any] | None:
    """Return why no frame is classified, and until when; None when frames are."""
    if resting is None:
        return None
    until = resting.until
    return {"why": resting.why, "until": None if until is None else timestamp(until.replace(microsecond=0))}


def _seen(plan: AnyPlan, observed: ObservedFrame | None) -> dict[str, float] | None:
    """Return the part of the picture that the model sees; None before the first frame."""
    if observed is None or not isinstance(plan, Plan):
        return None
    return region_document(plan.preprocessor().seen(observed.width, observed.height))


def _model(plan: AnyPlan) -> dict[str, Any] | None:
    if not isinstance(plan, Plan):
        return None
    taught = plan.taught
    return {
        "name": plan.bundle.name if taught is None else taught.name,
        "sha256": plan.bundle.sha256,
        "taught": taught is not None,
        "version": None if taught is None else taught.version,
    }


def top_document(plan: Plan, observed: ObservedFrame) -> list[dict[str, Any]]:
    """Return the best labels of a frame."""
    best = top_k(observed.reportable, min(_MOST_TOP, plan.section.top_k))
    labels = plan.bundle.labels.display
    ranked = zip(best.tolist(), observed.reportable[best].tolist(), strict=True)
    return [
        {"index": index, "label": labels[index], "confidence": round(value, 4)} for index, value in ranked if value >= 0
    ]
