"""The routes of the settings: the configuration file, a check of a draft, the newest warnings, the versions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sqlite3
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd import __version__
from edge_classifierd.clock import timestamp
from edge_classifierd.config.loading.hidden_secrets import hide_secrets
from edge_classifierd.config.loading.load import check_draft
from edge_classifierd.config.loading.read_file import UnreadableError, decode, read_small_file
from edge_classifierd.errors import ConfigurationError
from edge_classifierd.pipeline.planning.label_selection import LabelSelection
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.pipeline.planning.validation import examine
from edge_classifierd.web.route import MOST_JSON_BYTES, PageRoute, RequestError, json_answer, json_route, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.errors import Problem
    from edge_classifierd.pipeline.observation.control import PipelineControl
    from edge_classifierd.web.device.records import Records

_PACKAGES: Final = (
    "ai-edge-litert", "tflite-runtime", "numpy", "av", "Pillow", "paho-mqtt", "pydantic", "PyYAML", "starlette",
    "uvicorn",
)  # fmt: skip


class SettingsRoutes:
    """Shows the configuration without its secrets. Nothing here writes a file. One check at a time."""

    def __init__(self, records: Records, control: PipelineControl) -> None:
        self._records = records
        self._control = control
        self._checking = asyncio.Lock()

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            PageRoute("GET", "/api/configuration", self._configuration),
            json_route("POST", "/api/check", self._check),
            PageRoute("GET", "/api/log", self._log),
            PageRoute("GET", "/api/versions", self._versions),
        )

    async def _configuration(self, _request: Request) -> Response:
        async with self._checking:
            return json_answer(await asyncio.to_thread(self._describe_file))

    async def _check(self, request: Request) -> Response:
        text = (await read_json(request)).get("text")
        if not isinstance(text, str):
            raise RequestError(422, "value_refused", "`text` must be the text of a configuration", field="text")
        if self._checking.locked():
            raise RequestError(503, "busy", "another check is running", retry_after_s=1)
        async with self._checking:
            return json_answer({"problems": await asyncio.to_thread(self._check_draft, text)})

    async def _log(self, _request: Request) -> Response:
        warnings = self._records.warnings.newest
        listed = [{"time": timestamp(one.time), "level": one.level, "message": one.message} for one in warnings]
        return json_answer({"warnings": listed[::-1]})

    async def _versions(self, _request: Request) -> Response:
        return json_answer(await asyncio.to_thread(_versions))

    def _describe_file(self) -> dict[str, Any]:
        file = self._records.config
        text = ""
        with contextlib.suppress(UnreadableError, ConfigurationError):  # `examine` reports it
            text = hide_secrets(decode(read_small_file(file, MOST_JSON_BYTES).content, str(file)))
        try:
            document, _, found = examine(file)
            warnings: tuple[Problem, ...] = (*document.warnings, *(one for one in found if one.awaited))
            problems = tuple(one for one in found if not one.awaited)
        except ConfigurationError as error:
            problems, warnings = error.problems, ()
        return {
            "file": str(file),
            "text": text,
            "problems": [_problem(one) for one in problems],
            "warnings": [_problem(one) for one in warnings],
            "writable": os.access(file, os.W_OK),
        }

    def _check_draft(self, text: str) -> list[dict[str, Any]]:
        try:
            draft = check_draft(text, "draft", self._records.config.absolute().parent)
        except ConfigurationError as error:
            return [_problem(one) for one in error.problems]
        problems = [*draft.problems, *self._label_problems(draft.rest)]
        return [_problem(one) for one in sorted(problems, key=lambda one: (one.line == 0, one.line, one.column))]

    def _label_problems(self, draft: Document) -> Iterable[Problem]:
        """Check the labels of pipelines whose model is in use; the files that a draft names are not read."""
        running = [view.plan for view in self._control.view()]
        for key, section in draft.pipelines:
            plan = next((one for one in running if one.section.model == section.model and isinstance(one, Plan)), None)
            if isinstance(plan, Plan):
                selection = LabelSelection(draft, section, plan.bundle, plan.cpu_bundle, key)
                selection.plan(lambda kept=plan: kept)  # type: ignore[misc]
                yield from (mistake.problem for mistake in selection.mistakes)


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "line": problem.line or None,
        "column": problem.column or None,
        "key": problem.key,
        "message": problem.message,
        "temporary": problem.temporary,
    }


def _versions() -> dict[str, Any]:
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        system = ""
    return {
        "program": __version__,
        "python": platform.python_version(),
        "system": system,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "sqlite": sqlite3.sqlite_version,
        "packages": packages,
    }
