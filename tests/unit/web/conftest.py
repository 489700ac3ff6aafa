"""One page for the tests of a module, because loading a model takes seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from web_scene import PASSWORD, PageScene

from edge_classifierd.config.sections.web import WebSection
from edge_classifierd.web.live.results import NewestResults
from edge_classifierd.web.page import WebPage
from edge_classifierd.web.server import PageServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageScene]:
    """A page with a password."""
    folder = tmp_path_factory.mktemp("page")
    static = folder / "static"
    static.mkdir()
    (static / "index.html").write_text("<!doctype html><script src=static/app.js?v=__BUILD__></script>")
    (static / "app.js").write_text("// " + "x" * 2000)
    (static / "secret.key").write_text("not served")
    with PageScene(folder, static=static) as made:
        yield made


@pytest.fixture
def serve(page: PageScene) -> Iterator[Callable[..., PageServer]]:
    """Return a function that serves the page of the same pipelines with another section `web`."""
    started: list[PageServer] = []

    def start(**section: Any) -> PageServer:
        made = WebSection.model_validate({"password": PASSWORD, **section})
        parts = replace(page.parts, section=made, results=NewestResults(page.scene.clock))
        server = PageServer(made, lambda: WebPage(parts, page._static))
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop(5)
