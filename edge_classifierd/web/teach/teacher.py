"""What the routes of teaching share: the store, the parts that work, and the messages of the stream."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from edge_classifierd.errors import EdgeClassifierError, SourceError, UsageError
from edge_classifierd.events.ulid import is_ulid
from edge_classifierd.teaching.collected import take_over
from edge_classifierd.teaching.records import (
    MODEL_NAME,
    NameTakenError,
    NotTaughtError,
    StepGoneError,
    StoreFullError,
)
from edge_classifierd.web.route import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from edge_classifierd.teaching.recorder import Recorder
    from edge_classifierd.teaching.records import Added, TaughtClass, TaughtModel
    from edge_classifierd.teaching.store import TeachingStore
    from edge_classifierd.teaching.training.trainer import Trainer
    from edge_classifierd.teaching.training.versions import Versions
    from edge_classifierd.web.live.stream import Streams
    from edge_classifierd.web.parts import Parts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Teacher:
    """The parts of teaching. Used by the page's thread; what waits for a disk runs in another one."""

    parts: Parts
    store: TeachingStore
    recorder: Recorder
    versions: Versions
    trainer: Trainer
    streams: Streams
    _encoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a picture is encoded, so that one of the threads stays free for other requests."""

    async def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:  # noqa: ANN401 - passed on
        """Call a function of the store in another thread. Raises RequestError for its expected failures."""
        with refused():
            return await asyncio.to_thread(partial(function, *arguments, **options))

    async def keep(self, model: str, **picture: Any) -> Added:  # noqa: ANN401 - the arguments of `add_picture`
        """Add a picture, one at a time. Raises RequestError."""
        async with self._encoding:
            return await self.call(self.store.add_picture, model, **picture)

    async def collect(self, model: str, pipeline: str, folder: Path, most: int) -> tuple[int, int]:
        """Take over collected pictures, see `take_over`. Raises RequestError."""
        async with self._encoding:
            return await self.call(take_over, self.store, model, pipeline, folder, most)

    async def model(self, request: Request) -> TaughtModel:
        """Return the taught model that a request names. Raises RequestError when there is none."""
        name = request.path_params["model"]
        with refused():
            try:
                if MODEL_NAME.fullmatch(name):
                    return await asyncio.to_thread(self.store.model, name)
            except NotTaughtError:
                pass
        raise RequestError(404, "no_model", "there is no such taught model")

    def model_of(self, pipeline: str) -> str | None:
        """Return the taught model that a pipeline uses; None when it uses another one, or does not exist."""
        for view in self.parts.control.view():
            if view.name == pipeline:
                return view.plan.section.model.taught
        return None

    def used_by(self, model: str) -> list[str]:
        """Return the pipelines that use a taught model."""
        return [view.name for view in self.parts.control.view() if view.plan.section.model.taught == model]

    def changed(self, model: str) -> None:
        """Notify open pages that a taught model has changed."""
        self.streams.send("taught", {"name": model})


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Turn the expected failures of teaching into answers."""
    try:
        yield
    except NotTaughtError as error:
        raise RequestError(404, "not_found", str(error)) from error
    except NameTakenError as error:
        raise RequestError(409, "name_taken", str(error), field="name") from error
    except StepGoneError as error:
        raise RequestError(410, "too_old", str(error)) from error
    except StoreFullError as error:
        raise RequestError(507, "store_full", str(error)) from error
    except (UsageError, SourceError) as error:
        raise RequestError(422, "value_refused", str(error)) from error
    except EdgeClassifierError as error:
        raise RequestError(503, "unavailable", str(error), retry_after_s=5) from error


def class_of(model: TaughtModel, class_id: object) -> TaughtClass:
    """Return a class of a model. Raises RequestError when there is none."""
    for one in model.classes:
        if one.id == class_id:
            return one
    raise RequestError(404, "no_class", "there is no such class")


def ulid_of(request: Request, parameter: str) -> str:
    """Return the identifier in a path. Raises RequestError when it is none that the daemon can have made."""
    value: str = request.path_params[parameter]
    if not is_ulid(value):
        raise RequestError(404, "not_found", f"there is no such {parameter}")
    return value


def text_of(document: dict[str, Any], field: str) -> str:
    """Return a text of a body. Raises RequestError."""
    value = document.get(field)
    if not isinstance(value, str):
        raise RequestError(422, "value_refused", f"`{field}` must be text", field=field)
    return value
