"""Topics: valid and unique for all names."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edge_classifierd.config.sections.base import TopicPrefix
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

names = st.text(st.characters(codec="utf-8"), max_size=30)
good_names = st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True)


def all_topics(topics: Topics, pipeline: str, watch: str) -> list[str]:
    return [
        topics.base, topics.status, topics.health, topics.reload_command,
        topics.pipeline_status(pipeline), topics.event(pipeline), topics.state(pipeline), topics.image(pipeline),
        topics.enabled(pipeline), topics.enabled_command(pipeline), topics.snapshot_command(pipeline),
        topics.watch_state(pipeline, watch), topics.threshold(pipeline, watch),
        topics.threshold_command(pipeline, watch),
    ]  # fmt: skip


@given(names, names, names, names)
def test_topic_is_valid_or_refused(base: str, device: str, pipeline: str, watch: str) -> None:
    try:
        made = all_topics(Topics(base, device), pipeline, watch)
    except ValueError:
        return
    for topic in made:
        assert not set("+#\0") & set(topic)
        assert topic.isprintable() or not any(ord(one) < 0x20 for one in topic)
        assert topic.startswith(f"{base}/{device}")
        assert not topic.startswith(("$", "/"))
        assert 0 < len(topic.encode()) <= 65535


@given(good_names, good_names, good_names, good_names)
def test_valid_names_are_never_refused(base: str, device: str, pipeline: str, watch: str) -> None:
    made = all_topics(Topics(base, device), pipeline, watch)
    assert len(set(made)) == len(made)


special = st.sampled_from(["status", "health", "event", "state", "image", "enabled", "snapshot", "reload", "set"])
pairs = st.tuples(good_names | special, good_names | special)


@given(pairs, pairs)
def test_two_watches_never_share_a_topic(one: tuple[str, str], other: tuple[str, str]) -> None:
    assume(one != other)
    topics = Topics("base", "device")
    first, second = (set(all_topics(topics, *names)) for names in (one, other))
    of_device = {topics.base, topics.status, topics.health, topics.reload_command}
    of_pipeline = set(all_topics(topics, one[0], "x")[4:11]) if one[0] == other[0] else set()
    assert first & second == of_device | of_pipeline


def test_topics_are_as_documented() -> None:
    topics = Topics("edge-classifierd", "porch")
    assert [one.removeprefix("edge-classifierd/porch/") for one in all_topics(topics, "driveway", "dog")[1:]] == [
        "status", "health", "reload/set", "driveway/status", "driveway/event", "driveway/state", "driveway/image",
        "driveway/enabled", "driveway/enabled/set", "driveway/snapshot/set", "driveway/dog/state",
        "driveway/dog/threshold", "driveway/dog/threshold/set",
    ]  # fmt: skip


any_text = st.text(st.characters(), max_size=30)  # surrogates too


@given(any_text | st.from_regex(r"a[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]b", fullmatch=True))
def test_configuration_and_topics_accept_the_same_base_topics(base: str) -> None:
    def takes(make: Callable[[str], object]) -> bool:
        try:
            make(base)
        except ValueError:
            return False
        return True

    assert takes(TypeAdapter(TopicPrefix).validate_python) == takes(lambda base: Topics(base, "porch"))


@pytest.mark.parametrize("base", ["", "a/+", "#", "a\0b", "/a", "a/", "$SYS", "a\nb"])
def test_base_topic_that_brokers_refuse_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match="base topic"):
        Topics(base, "porch")


@pytest.mark.parametrize("name", ["", "a/b", "+", "a#", "a\0", "\ud800"])
def test_name_is_one_level(name: str) -> None:
    topics = Topics("base", "porch")
    for make in (topics.event, topics.state, lambda one: topics.watch_state("p", one)):
        with pytest.raises(ValueError, match="one level"):
            make(name)
    with pytest.raises(ValueError, match="one level"):
        Topics("base", name)


def test_too_long_name_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than MQTT allows"):
        Topics("base", "d").event("x" * 70000)
    assert list(itertools.islice(Topics("base", "d").event("x" * 1000), 4)) == list("base")


def test_length_of_a_topic_is_measured_in_bytes() -> None:
    assert Topics("a" * 40_000, "porch").base
    with pytest.raises(ValueError, match="longer than MQTT allows"):
        Topics("ü" * 40_000, "porch")
