"""The slot: the offering and the taking thread wait for each other exactly as long as they should."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.frames.latest_slot import LatestSlot

if TYPE_CHECKING:
    from collections.abc import Callable


def begin(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def offer(slot: LatestSlot[int], item: int, patience_s: float | None) -> bool:
    replaced = slot.put(item)
    slot.wait_until_taken(patience_s)
    return replaced


def is_waiting(thread: threading.Thread) -> bool:
    thread.join(0.1)
    return thread.is_alive()


def assert_offer_waits_until_taken(slot: LatestSlot[int], item: int) -> None:
    thread = begin(lambda: offer(slot, item, None))
    assert is_waiting(thread)
    assert slot.take(1.0) == item
    thread.join(5)
    assert not thread.is_alive()


@pytest.fixture
def slot() -> LatestSlot[int]:
    return LatestSlot()


def test_an_offer_waits_until_it_is_taken(slot: LatestSlot[int]) -> None:
    assert_offer_waits_until_taken(slot, 1)


def test_a_late_take_of_an_earlier_item_does_not_end_an_offer(slot: LatestSlot[int]) -> None:
    offer(slot, 1, 0.001)
    assert slot.take(0.0) == 1
    assert_offer_waits_until_taken(slot, 2)


def test_an_offer_that_timed_out_is_replaced_by_the_next(slot: LatestSlot[int]) -> None:
    assert not offer(slot, 1, 0.001)
    assert offer(slot, 2, 0.001)
    assert slot.take(0.0) == 2
    assert slot.empty


def test_a_take_after_one_that_did_not_wait_waits_for_the_next_item(slot: LatestSlot[int]) -> None:
    offer(slot, 1, 0.001)
    assert slot.take(1.0) == 1
    taken: list[int | None] = []
    thread = begin(lambda: taken.append(slot.take(10.0)))
    assert is_waiting(thread)
    offer(slot, 2, None)
    thread.join(5)
    assert taken == [2]


def test_a_take_without_an_item_returns_none_after_its_timeout(slot: LatestSlot[int]) -> None:
    began = time.monotonic()
    assert slot.take(0.05) is None
    assert time.monotonic() - began >= 0.05


def test_the_end_wakes_the_taking_thread(slot: LatestSlot[int]) -> None:
    thread = begin(lambda: slot.take(60.0))
    assert is_waiting(thread)
    slot.end()
    thread.join(5)
    assert not thread.is_alive()
    assert slot.ended
    assert slot.take(60.0) is None


@pytest.mark.parametrize("discard", [True, False])
def test_the_end_wakes_the_offering_thread_and_may_keep_the_last_item(slot: LatestSlot[int], discard: bool) -> None:
    thread = begin(lambda: offer(slot, 1, None))
    assert is_waiting(thread)
    slot.end(discard=discard)
    thread.join(5)
    assert not thread.is_alive()
    assert not offer(slot, 2, None), "no more items are accepted"
    assert slot.take(60.0) == (None if discard else 1)
    assert slot.empty


def test_the_next_item_can_be_requested_after_a_take(slot: LatestSlot[int]) -> None:
    thread = begin(lambda: offer(slot, 1, None))
    assert slot.take(1.0, request_next=False) == 1
    assert is_waiting(thread)
    slot.request_next()
    thread.join(5)
    assert not thread.is_alive()


def test_a_take_that_finds_nothing_requests_the_next_item(slot: LatestSlot[int]) -> None:
    thread = begin(lambda: offer(slot, 1, None))
    assert slot.take(1.0, request_next=False) == 1
    assert is_waiting(thread)
    assert slot.take(0.05, request_next=False) is None
    thread.join(5)
    assert not thread.is_alive()


def test_a_request_does_not_lose_an_item_that_was_not_taken(slot: LatestSlot[int]) -> None:
    thread = begin(lambda: offer(slot, 1, None))
    while slot.empty:
        time.sleep(0.001)
    slot.request_next()
    assert is_waiting(thread)
    assert slot.take(0.0) == 1
    thread.join(5)
    assert not thread.is_alive()
