"""The route of the models: which there are, and which pipelines use them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.model.bundle import BUNDLED_MODELS, bundled_model_path, is_bundled
from edge_classifierd.model.catalogue import LICENCE, catalogue
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.web.route import PageRoute, json_answer

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.taught import TaughtInUse
    from edge_classifierd.pipeline.observation.control import PipelineControl

_KNOWN_CLASSES: Final = 1000
"""Both bundled models have ImageNet's classes."""


class ModelRoutes:
    """Describes the models of the running pipelines and the bundled ones."""

    def __init__(self, control: PipelineControl) -> None:
        self._control = control

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (PageRoute("GET", "/api/models", self._models),)

    async def _models(self, _request: Request) -> Response:
        return json_answer(await asyncio.to_thread(self._rows))

    def _rows(self) -> list[dict[str, Any]]:
        used: dict[tuple[Path, str], tuple[ModelBundle, list[str], TaughtInUse | None]] = {}
        for view in self._control.view():
            plan = view.plan
            for bundle in (plan.bundle, plan.cpu_bundle) if isinstance(plan, Plan) else ():
                if bundle is not None:
                    taught = plan.taught if isinstance(plan, Plan) else None
                    used.setdefault((bundle.path, bundle.sha256), (bundle, [], taught))[1].append(view.name)
        rows = [
            _row(bundle.path, pipelines, len(bundle.labels.display), bundle, taught)
            for bundle, pipelines, taught in used.values()
        ]
        known = {path for path, _ in used}
        others = [path for path in map(bundled_model_path, BUNDLED_MODELS) if path not in known]
        return rows + [_row(path, [], _KNOWN_CLASSES, None) for path in others]


def _row(
    path: Path, used_by: list[str], classes: int, bundle: ModelBundle | None, taught: TaughtInUse | None = None
) -> dict[str, Any]:
    bundled = is_bundled(path)
    licensed = bundled or any(entry.file_name == path.name for entry in catalogue())
    try:
        size: int | None = path.stat().st_size
    except OSError:
        size = None
    return {
        "name": taught.name if taught is not None else path.stem if bundle is None else bundle.name,
        "kind": "bundled" if bundled else "file" if taught is None else "taught",
        "version": None if taught is None else taught.version,
        "used_by": used_by,
        "classes": classes,
        "bytes": size,
        "sha256": None if bundle is None else bundle.sha256,
        "licence": LICENCE if licensed else None,
    }
