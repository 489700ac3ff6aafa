"""One page for the tests of a module, because loading a model takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from web_scene import PageScene

if TYPE_CHECKING:
    from collections.abc import Iterator


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
