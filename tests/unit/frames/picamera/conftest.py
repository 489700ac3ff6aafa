"""The fixture of the tests of the Raspberry Pi camera."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from picamera_stand_in import Hardware, modules

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hardware]:
    made = Hardware()
    for name, module in modules(made).items():
        monkeypatch.setitem(sys.modules, name, module)
    yield made
    assert made.open == 0, "a camera was left open"
    assert made.requests_out == 0, "a request was not given back"
