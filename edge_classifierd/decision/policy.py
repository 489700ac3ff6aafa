"""The decision policy: turns observations into `detected` and `cleared` decisions, one per real change.

A watch is detected at its threshold and cleared below its release (hysteresis), each after `confirm` frames in a row;
a cooldown follows `cleared`. A frame that is below the threshold or ambiguous restarts the count for `detected`. For
`cleared` only the confidence counts, because an empty scene often stays ambiguous. Pure: no clock, threads or I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.decision.types import Decision, Observation, Outcome, Ranked, WatchRule, WatchState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray


class Policy:
    """The watches of one pipeline. Observations must come in the order of their time."""

    def __init__(self, rules: Iterable[WatchRule], *, ambiguity_margin: float = 0.0) -> None:
        """`ambiguity_margin` is the lead of the best class over the second that a frame needs to count; 0 is off."""
        self._watches = {rule.name: _Watch(rule) for rule in rules}
        self._margin = ambiguity_margin

    def observe(self, *views: Observation) -> Outcome:
        """Decide on one frame; decisions are in the order of the watches, `cleared` before `detected` within one.

        Several views show different parts of a scene, the newest first. They count as one frame, and for each watch the
        view with the greatest confidence decides.
        """
        ambiguous = [self._margin > 0 and view.lead < self._margin for view in views]
        decisions: list[Decision] = []
        for watch in self._watches.values():
            watch.observe(views, ambiguous, into=decisions)
        return Outcome(tuple(decisions), any(ambiguous))

    def end(self, at_s: float) -> tuple[Decision, ...]:
        """Clear every active watch: the source has ended or the pipeline was switched off."""
        return tuple(watch.clear(at_s, 0.0) for watch in self._watches.values() if watch.is_active)

    def settle(self, at_s: float) -> tuple[Decision, ...]:
        """Clear every active watch that was below its release in the last frame, without waiting for `confirm`.

        For a pipeline that gets no more frames until something moves.
        """
        return tuple(watch.clear(at_s, watch.state.confidence) for watch in self._watches.values() if watch.is_fading)

    def active(self) -> tuple[str, ...]:
        """Return the names of the watches that are on."""
        return tuple(name for name, watch in self._watches.items() if watch.is_active)

    def states(self) -> Mapping[str, WatchState]:
        """Return the state of every watch by name, in the order of the configuration."""
        return {name: watch.state for name, watch in self._watches.items()}

    def set_threshold(self, watch: str, threshold: float | None) -> None:
        """Change one watch's threshold from the next frame on; a release above it becomes equal to it.

        None returns both to the values of the watch's rule.

        Raises:
            KeyError: there is no such watch.
            ValueError: the threshold is outside (0, 1].
        """
        self._watches[watch].set_threshold(threshold)

    def adopt(self, rules: Iterable[WatchRule], *, ambiguity_margin: float, at_s: float) -> tuple[Decision, ...]:
        """Use other rules: watches of the same name keep their state, active ones that are removed are cleared."""
        before, self._watches = self._watches, {}
        for rule in rules:
            kept = before.get(rule.name)
            if kept is not None and kept.watches_top is (rule.indices is None):
                kept.adopt(rule)
                self._watches[rule.name] = before.pop(rule.name)
            else:
                self._watches[rule.name] = _Watch(rule)
        self._margin = ambiguity_margin
        return tuple(watch.clear(at_s, 0.0) for watch in before.values() if watch.is_active)

    def restore(self, watch: str, *, index: int, since_s: float) -> None:
        """Restore a watch that was active before a restart or reload, without a decision. Raises KeyError."""
        self._watches[watch].restore(index, since_s)

    def keep_quiet(self, watch: str, *, at_s: float, for_s: float) -> None:
        """Restore the cooldown of a watch that was cleared before a restart, at most a whole one. Raises KeyError."""
        self._watches[watch].keep_quiet(at_s, for_s)


class _Watch:
    """One watch: off, counting frames to `detected`, on, counting frames to `cleared`, or in its cooldown."""

    def __init__(self, rule: WatchRule) -> None:
        self.adopt(rule)
        self._confidence = 0.0
        self._run = 0
        self._run_index: int | None = None
        self._active_index: int | None = None
        self._since_s = 0.0
        self._quiet_until_s = float("-inf")

    def adopt(self, rule: WatchRule) -> None:
        self._rule = rule
        self._indices = None if rule.indices is None else np.asarray(rule.indices, np.intp)
        self._threshold = rule.threshold
        self._release = rule.release

    @property
    def watches_top(self) -> bool:
        return self._indices is None

    @property
    def is_active(self) -> bool:
        return self._active_index is not None

    @property
    def is_fading(self) -> bool:
        """Whether it is active and counts frames to `cleared`."""
        return self.is_active and self._run > 0

    @property
    def state(self) -> WatchState:
        active = self._active_index is not None
        since_s = self._since_s if active else None
        return WatchState(active, self._confidence, self._threshold, since_s, self._active_index, self._quiet_until_s)

    def set_threshold(self, threshold: float | None) -> None:
        if threshold is None:
            threshold = self._rule.threshold
        if not 0 < threshold <= 1:
            raise ValueError(f"a threshold lies above 0 and at most at 1, not at {threshold}")
        self._threshold = threshold
        self._release = min(self._rule.release, threshold)

    def restore(self, index: int, since_s: float) -> None:
        self._active_index, self._since_s, self._run = index, since_s, 0

    def keep_quiet(self, at_s: float, for_s: float) -> None:
        self._quiet_until_s = at_s + min(for_s, self._rule.cooldown_s)

    def observe(self, views: Sequence[Observation], ambiguous: Sequence[bool], into: list[Decision]) -> None:
        view, best = self._strongest(views)
        at_s = views[0].at_s
        self._confidence = best.confidence
        if self._active_index is not None:
            self._run = self._run + 1 if best.confidence < self._release else 0
            if self._run < self._rule.confirm:
                return
            into.append(self.clear(at_s, best.confidence, view))
            if self._indices is not None:
                return
            # The watch `any` follows the top label: the one that replaced the old may be a detection itself.
            view, best = self._strongest(views)
            self._confidence = best.confidence
        if ambiguous[view] or best.confidence < self._threshold:
            self._run = 0
        else:
            self._count_up(best, at_s, view, into)

    def clear(self, at_s: float, confidence: float, view: int = 0) -> Decision:
        assert self._active_index is not None
        active_s = max(0.0, at_s - self._since_s)
        decision = Decision("cleared", self._rule.name, self._active_index, confidence, active_s, view)
        self._active_index, self._run, self._run_index = None, 0, None
        self._quiet_until_s = at_s + self._rule.cooldown_s
        return decision

    def _count_up(self, best: Ranked, at_s: float, view: int, into: list[Decision]) -> None:
        same = self._indices is not None or best.index == self._run_index
        self._run = self._run + 1 if same else 1
        self._run_index = best.index
        if self._run < self._rule.confirm or at_s < self._quiet_until_s:
            return
        self._active_index, self._since_s, self._run = best.index, at_s, 0
        into.append(Decision("detected", self._rule.name, best.index, best.confidence, None, view))

    def _strongest(self, views: Sequence[Observation]) -> tuple[int, Ranked]:
        """Return the view in which the watch is strongest, and its class there; the first of equal ones."""
        if len(views) == 1:
            return 0, self._best(views[0])
        found = [self._best(view) for view in views]
        view = max(range(len(found)), key=lambda number: found[number].confidence)
        return view, found[view]

    def _best(self, observation: Observation) -> Ranked:
        """Return the watch's strongest class with the confidence of the whole watch."""
        if self._indices is None:
            if self._active_index is not None:
                return Ranked(self._active_index, float(observation.confidences[self._active_index]))
            return observation.best or Ranked(0, 0.0)
        watched: NDArray[np.float32] = observation.confidences[self._indices]
        strongest = int(watched.argmax())
        confidence = watched.sum() if self._rule.combine == "sum" else watched[strongest]
        # Rounding in float32 can make a sum of probabilities slightly greater than 1.
        return Ranked(int(self._indices[strongest]), min(1.0, float(confidence)))
