"""Event identifiers: unique and in order whatever the wall clock does."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from event_samples import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.events.ulid import UlidGenerator


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=50))
def test_identifiers_grow_whatever_the_wall_clock_does(seconds: list[int]) -> None:
    clock = FakeClock()
    ids = UlidGenerator(clock)
    made = [ids.new()]
    for since_epoch in seconds:
        clock.wall = datetime.fromtimestamp(since_epoch, UTC)
        made.append(ids.new())
    assert made == sorted(set(made))
    assert all(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", one) for one in made)


def test_an_identifier_begins_with_its_time() -> None:
    clock = FakeClock()
    clock.wall = datetime.fromtimestamp(1_469_918_176.385, UTC)  # the example of the ULID specification
    assert UlidGenerator(clock).new().startswith("01ARYZ6S41")


def test_threads_never_get_the_same_identifier() -> None:
    ids = UlidGenerator(FakeClock())
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ids.new(), range(2000)))
    assert len(set(made)) == 2000
