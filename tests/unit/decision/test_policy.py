from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.decision.policy import Policy
from edge_classifierd.decision.types import Decision, Observation, Ranked, WatchRule

CLASSES = 6


def seen(at_s: float, *confidences: float) -> Observation:
    values = np.zeros(CLASSES, np.float32)
    values[: len(confidences)] = confidences
    best = int(values.argmax())
    second, first = sorted(values.tolist())[-2:]
    return Observation(at_s, values, Ranked(best, float(values[best])), first - second)


def rule(**changes: object) -> WatchRule:
    values: dict[str, object] = {"name": "dog", "indices": (0, 1), "threshold": 0.6, "release": 0.4}
    return WatchRule(**{**values, **changes})  # type: ignore[arg-type]


def run(policy: Policy, rows: list[tuple[float, ...]], step_s: float = 1.0) -> list[tuple[int, str]]:
    return [
        (frame, decision.type)
        for frame, row in enumerate(rows)
        for decision in policy.observe(seen(frame * step_s, *row)).decisions
    ]


def test_crossing_up_detects_and_crossing_down_clears() -> None:
    policy = Policy([rule()])
    assert run(policy, [(0.1,), (0.7,), (0.7,), (0.1,), (0.1,)]) == [(1, "detected"), (3, "cleared")]


def test_confidence_inside_the_hysteresis_band_changes_nothing() -> None:
    policy = Policy([rule()])
    rows = [(0.5,), (0.59,), (0.6,), (0.41,), (0.59,), (0.4,), (0.39,)]
    assert run(policy, rows) == [(2, "detected"), (6, "cleared")]


def test_classes_of_a_softmax_watch_add_up() -> None:
    outcome = Policy([rule()]).observe(seen(0, 0.25, 0.4))
    assert [decision.index for decision in outcome.decisions] == [1]
    assert outcome.decisions[0].confidence == pytest.approx(0.65)


def test_classes_of_a_multi_label_watch_do_not_add_up() -> None:
    policy = Policy([rule(combine="max")])
    assert run(policy, [(0.5, 0.5), (0.5, 0.7)]) == [(1, "detected")]


def test_confirmation_needs_frames_in_a_row() -> None:
    policy = Policy([rule(confirm=3)])
    assert run(policy, [(0.7,), (0.7,), (0.2,), (0.7,), (0.7,), (0.7,)]) == [(5, "detected")]


def test_uncertain_frame_restarts_confirmation() -> None:
    policy = Policy([rule(confirm=3, threshold=0.4, release=0.2)], ambiguity_margin=0.2)
    certain, ambiguous = (0.6, 0.0, 0.2), (0.5, 0.0, 0.4)
    assert run(policy, [certain, certain, ambiguous, certain, certain, certain]) == [(5, "detected")]


def test_ambiguity_does_not_keep_a_watch_on() -> None:
    policy = Policy([rule(confirm=2)], ambiguity_margin=0.2)
    assert run(policy, [(0.9,), (0.9,), (0.1, 0, 0.1), (0.1, 0, 0.1)]) == [(1, "detected"), (3, "cleared")]


def test_clearing_needs_as_many_frames_in_a_row_as_detecting() -> None:
    policy = Policy([rule(confirm=2)])
    assert run(policy, [(0.7,), (0.7,), (0.1,), (0.7,), (0.1,), (0.1,)]) == [(1, "detected"), (5, "cleared")]


def test_cooldown_keeps_quiet_after_cleared_and_then_detects_at_once() -> None:
    policy = Policy([rule(cooldown_s=3.0)])
    rows = [(0.7,), (0.1,), (0.7,), (0.7,), (0.7,), (0.7,)]
    assert run(policy, rows) == [(0, "detected"), (1, "cleared"), (4, "detected")]


def test_cleared_has_the_duration_and_the_label_of_the_watch() -> None:
    policy = Policy([rule()])
    policy.observe(seen(10.0, 0.1, 0.7))
    assert policy.observe(seen(12.5, 0.1, 0.0)).decisions == (Decision("cleared", "dog", 1, pytest.approx(0.1), 2.5),)


def test_any_follows_the_top_label_from_one_thing_to_the_next() -> None:
    policy = Policy([rule(name="any", indices=None)])
    decisions = [
        (decision.type, decision.index)
        for frame, row in enumerate([(0.9,), (0.0, 0.9), (0.0, 0.1)])
        for decision in policy.observe(seen(frame, *row)).decisions
    ]
    assert decisions == [("detected", 0), ("cleared", 0), ("detected", 1), ("cleared", 1)]


def test_any_confirms_one_and_the_same_label() -> None:
    policy = Policy([rule(name="any", indices=None, confirm=2)])
    assert run(policy, [(0.9,), (0, 0.9), (0.9,), (0.9,)]) == [(3, "detected")]


def test_any_without_anything_to_report_stays_off() -> None:
    policy = Policy([rule(name="any", indices=None)])
    assert policy.observe(Observation(0.0, np.ones(CLASSES, np.float32), None)).decisions == ()


def test_end_clears_what_is_on_and_only_that() -> None:
    policy = Policy([rule(), rule(name="cat", indices=(2,))])
    policy.observe(seen(1.0, 0.9))
    assert policy.end(4.0) == (Decision("cleared", "dog", 0, 0.0, 3.0),)
    assert policy.end(5.0) == ()


def test_restored_watch_goes_on_without_a_second_detection() -> None:
    policy = Policy([rule()])
    policy.restore("dog", index=1, since_s=-100.0)
    assert policy.observe(seen(0.0, 0.0, 0.9)).decisions == ()
    assert policy.observe(seen(1.0)).decisions == (Decision("cleared", "dog", 1, 0.0, 101.0),)


def test_a_restored_cooldown_ends_in_time_and_is_not_longer_than_a_whole_one() -> None:
    policy = Policy([rule(cooldown_s=5.0), rule(name="cat", indices=(2,), cooldown_s=5.0)])
    policy.keep_quiet("dog", at_s=100.0, for_s=2.0)
    policy.keep_quiet("cat", at_s=100.0, for_s=3600.0)
    told = [(at_s, one.watch) for at_s in range(100, 107) for one in policy.observe(seen(at_s, 0.9, 0, 0.9)).decisions]
    assert told == [(102, "dog"), (105, "cat")]
    with pytest.raises(KeyError):
        policy.keep_quiet("cow", at_s=0.0, for_s=1.0)


def test_new_threshold_holds_from_the_next_frame_and_release_follows_it_down() -> None:
    policy = Policy([rule()])
    policy.set_threshold("dog", 0.3)
    assert run(policy, [(0.35,), (0.31,), (0.29,)]) == [(0, "detected"), (2, "cleared")]
    with pytest.raises(ValueError, match="at most at 1"):
        policy.set_threshold("dog", 1.5)
    with pytest.raises(KeyError):
        policy.set_threshold("cow", 0.5)


def test_a_threshold_that_is_reset_returns_with_its_release() -> None:
    policy = Policy([rule()])
    policy.set_threshold("dog", 0.3)
    policy.set_threshold("dog", None)
    assert run(policy, [(0.35,), (0.6,), (0.4,), (0.39,)]) == [(1, "detected"), (3, "cleared")]


@pytest.mark.parametrize(
    "changes", [{"release": 0.7}, {"threshold": 0.0}, {"confirm": 0}, {"indices": ()}, {"cooldown_s": -1.0}]
)
def test_impossible_rule_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="watch dog"):
        rule(**changes)


rules = st.builds(
    lambda indices, threshold, share, confirm, cooldown_s, combine: WatchRule(
        "w", indices, threshold, threshold * share, confirm, cooldown_s, combine
    ),
    st.one_of(st.none(), st.lists(st.integers(0, CLASSES - 1), min_size=1, unique=True).map(tuple)),
    st.floats(0.05, 1.0),
    st.floats(0.0, 1.0),
    st.integers(1, 4),
    st.floats(0.0, 5.0),
    st.sampled_from(["sum", "max"]),
)
frames = st.lists(
    st.tuples(st.lists(st.floats(0, 1, width=32), min_size=CLASSES, max_size=CLASSES), st.floats(0.0, 2.0)), max_size=60
)


def confidence_of(a_rule: WatchRule, values: list[float], index: int) -> float:
    if a_rule.indices is None:
        return values[index]
    watched = [values[i] for i in a_rule.indices]
    return min(1.0, sum(watched)) if a_rule.combine == "sum" else max(watched)


@given(rules, frames, st.floats(0, 0.5))
def test_decisions_alternate_and_follow_every_rule(
    a_rule: WatchRule, rows: list[tuple[list[float], float]], margin: float
) -> None:
    policy = Policy([a_rule], ambiguity_margin=margin)
    at_s, active_index, quiet_until_s, since_s = 0.0, None, float("-inf"), 0.0
    history: list[list[float]] = []
    for values, step_s in rows:
        scaled = [value / max(1.0, sum(values)) for value in values] if a_rule.combine == "sum" else values
        at_s += step_s
        history.append([float(np.float32(value)) for value in scaled])
        outcome = policy.observe(seen(at_s, *scaled))
        for decision in outcome.decisions:
            run_of = [confidence_of(a_rule, row, decision.index) for row in history[-a_rule.confirm :]]
            assert len(run_of) == a_rule.confirm
            if decision.type == "detected":
                assert active_index is None
                assert not outcome.ambiguous
                assert at_s >= quiet_until_s
                assert all(value >= a_rule.threshold - 1e-6 for value in run_of)
                active_index, since_s = decision.index, at_s
            else:
                assert active_index == decision.index
                assert all(value < a_rule.release + 1e-6 for value in run_of)
                assert decision.active_s == pytest.approx(at_s - since_s)
                active_index, quiet_until_s = None, at_s + a_rule.cooldown_s
        assert policy.states()["w"].active == (active_index is not None)
        assert policy.states()["w"].index == active_index


def test_a_restored_watch_never_has_a_negative_duration() -> None:
    policy = Policy([rule()])
    policy.restore("dog", index=0, since_s=10.0)
    (decision,) = policy.observe(seen(9.9, 0.1)).decisions  # captured before the watch was restored
    assert decision.active_s == 0.0


@pytest.mark.parametrize(("before", "after"), [(None, (0, 1)), ((0, 1), None)])
def test_a_watch_that_starts_or_stops_following_the_top_label_restarts(
    before: tuple[int, ...] | None, after: tuple[int, ...] | None
) -> None:
    policy = Policy([rule(indices=before)])
    policy.observe(seen(0, 0.9))
    decisions = policy.adopt([rule(indices=after)], ambiguity_margin=0.0, at_s=2.0)
    assert [(one.type, one.index, one.active_s) for one in decisions] == [("cleared", 0, 2.0)]
    assert policy.active() == ()


def test_of_several_views_the_strongest_decides_for_each_watch() -> None:
    policy = Policy([rule(), rule(name="cat", indices=(3,))])
    outcome = policy.observe(seen(1.0, 0.1), seen(0.9, 0.0, 0.7), seen(0.8, 0, 0, 0, 0.9))
    assert [(one.watch, one.index, one.view) for one in outcome.decisions] == [("dog", 1, 1), ("cat", 3, 2)]
    assert policy.observe(seen(2.0, 0.9), seen(1.9)).decisions == (Decision("cleared", "cat", 3, 0.0, 1.0, 0),)


def test_several_views_count_as_one_frame() -> None:
    policy = Policy([rule(confirm=2)])
    assert policy.observe(seen(1.0, 0.9), seen(0.9, 0.9), seen(0.8, 0.9)).decisions == ()
    assert len(policy.observe(seen(2.0), seen(1.9, 0.9)).decisions) == 1


def test_an_ambiguous_view_does_not_count_even_if_another_view_is_clear() -> None:
    policy = Policy([rule()], ambiguity_margin=0.5)
    assert policy.observe(seen(1.0, 0.7, 0.0, 0.6), seen(0.9, 0, 0, 0, 0.9)).decisions == ()


def test_settling_clears_what_was_below_its_release_and_nothing_else() -> None:
    policy = Policy([rule(confirm=5), rule(name="cat", indices=(3,), confirm=5)])
    for second in range(5):
        policy.observe(seen(second, 0.9, 0, 0, 0.9))
    policy.observe(seen(6.0, 0.1, 0, 0, 0.5))
    assert policy.settle(8.0) == (Decision("cleared", "dog", 0, pytest.approx(0.1), 4.0),)
    assert policy.active() == ("cat",)
    assert policy.settle(9.0) == ()
