"""The recorded confidences: peaks of ten seconds, bounded in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.decision.types import WatchState
from edge_classifierd.web.live.history import BUCKET_S, History


def state(confidence: float, *, on_since_s: float | None = None) -> dict[str, WatchState]:
    return {"cat": WatchState(on_since_s is not None, confidence, 0.5, on_since_s, None, 0.0)}


def test_a_step_shows_its_highest_confidence_and_a_gap_shows_none() -> None:
    history = History()
    for at_s, confidence in ((1000.0, 0.2), (1005.0, 0.9), (1009.9, 0.1), (1030.0, 0.4)):
        history.record("garden", state(confidence), at_s)
    curves = history.curves("garden", 50, 1035.0)
    assert curves.step_s == BUCKET_S
    assert curves.end_s == 1040.0
    assert curves.watches["cat"].peaks == (None, 0.9, None, None, 0.4)


def test_a_day_is_shown_in_at_most_720_steps_with_their_highest() -> None:
    history = History()
    history.record("garden", state(0.7), 80_005.0)
    history.record("garden", state(0.3), 86_395.0)
    curves = history.curves("garden", 86_400, 86_399.0)
    peaks = curves.watches["cat"].peaks
    assert len(peaks) == 720
    assert curves.step_s == 120.0
    assert [peak for peak in peaks if peak is not None] == [0.7, 0.3]


def test_values_older_than_a_day_are_forgotten_also_after_a_long_pause() -> None:
    history = History()
    history.record("garden", state(0.7), 1000.0)
    history.record("garden", state(0.2), 1000.0 + 86_400 + 30)
    peaks = history.curves("garden", 86_400, 1000.0 + 86_400 + 30).watches["cat"].peaks
    assert [peak for peak in peaks if peak is not None] == [0.2]


def test_the_times_when_a_watch_was_on_are_shown() -> None:
    history = History()
    history.record("garden", state(0.9, on_since_s=100.0), 100.0)
    history.record("garden", state(0.9, on_since_s=100.0), 110.0)
    history.record("garden", state(0.1), 120.0)
    history.record("garden", state(0.9, on_since_s=130.0), 130.0)
    assert history.curves("garden", 60, 140.0).watches["cat"].on == ((100.0, 120.0), (130.0, None))
    assert history.curves("garden", 35, 140.0).watches["cat"].on == ((105.0, 120.0), (130.0, None))
    assert history.curves("garden", 15, 140.0).watches["cat"].on == ((130.0, None),)


def test_the_times_when_a_pipeline_rested_are_shown() -> None:
    history = History()
    for at_s, resting in ((1000, True), (1001, True), (1020, False), (1021, False), (1050, True)):
        history.record_rest("garden", resting, at_s)
    history.record_rest("door", False, 1050)
    assert history.curves("garden", 60, 1060).resting == ((1000, 1020), (1050, None))
    assert history.curves("garden", 50, 1060).resting == ((1010, 1020), (1050, None))
    assert history.curves("garden", 30, 1060).resting == ((1050, None),)
    assert history.curves("door", 60, 1060).resting == ()
    assert history.curves("attic", 60, 1060).resting == ()


def test_a_watch_keeps_its_past_when_another_is_added() -> None:
    history = History()
    history.record("garden", state(0.7), 1000.0)
    history.record("garden", {**state(0.2), "dog": state(0.4)["cat"]}, 1010.0)
    watches = history.curves("garden", 20, 1015.0).watches
    assert watches["cat"].peaks == (0.7, 0.2)
    assert watches["dog"].peaks == (None, 0.4)


def test_many_watches_share_four_megabytes_and_keep_what_fits() -> None:
    history = History()
    history.record("garden", state(0.7), 1000.0)
    history.record("drive", {f"watch{number}": state(0.5)["cat"] for number in range(4000)}, 1001.0)
    watches = [watch for known in history._watches.values() for watch in known.values()]
    assert sum(2 * watch.size for watch in watches) <= 4_000_000
    assert history.curves("garden", 10, 1001.0).watches["cat"].peaks == (0.7,)


@given(st.lists(st.tuples(st.floats(0, 30_000), st.floats(0, 1)), max_size=60), st.integers(10, 30_000))
def test_every_step_is_the_highest_of_its_frames(frames: list[tuple[float, float]], span_s: int) -> None:
    history = History()
    ordered = sorted(frames)
    for at_s, confidence in ordered:
        history.record("garden", state(confidence), at_s)
    curves = history.curves("garden", span_s, 30_000.0)
    if not ordered:
        assert curves.watches == {}
        return
    peaks = curves.watches["cat"].peaks
    start_s = curves.end_s - curves.step_s * len(peaks)
    for number, peak in enumerate(peaks):
        low_s, high_s = start_s + number * curves.step_s, start_s + (number + 1) * curves.step_s
        inside = [confidence for at_s, confidence in ordered if low_s <= at_s < high_s]
        assert (peak is None) == (not inside)
        assert peak is None or abs(peak - max(inside)) <= 1e-4
