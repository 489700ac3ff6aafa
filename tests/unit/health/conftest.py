from __future__ import annotations

import pytest
from health_clock import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
