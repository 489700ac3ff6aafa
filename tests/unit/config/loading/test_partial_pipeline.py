"""What is left of a pipeline without its mistakes: whatever it is given, a right part of it or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_classifierd.config.loading.partial_pipeline import PartialPipeline, sound_part
from edge_classifierd.config.sections.paths import FOLDER, STATE

CONTEXT = {FOLDER: Path("/"), STATE: Path("/")}
GOOD = {"name": "a", "source": {"type": "v4l2"}}


def sections(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    keys = ["name", "labels", "threshold", "type", "path", "url", "device", "region", "edgetpu", "recursive", 7, None]
    return st.dictionaries(st.sampled_from(keys), inner, max_size=4)


values = st.recursive(
    st.sampled_from([None, "", 0, 1.5, True, "cat", "folder", "v4l2", "/nowhere"]),
    lambda inner: st.lists(inner, max_size=2) | sections(inner),
    max_leaves=6,
)


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(["name", "source", "model", "watches", "allow", "deny", "snapshot", "fit", "watchs", 7, None]),
        values,
        max_size=6,
    )
)
def test_any_data_is_a_part_or_nothing(data: dict[Any, Any]) -> None:
    part = sound_part(data, CONTEXT)
    assert part is None or isinstance(part, PartialPipeline)


@pytest.mark.parametrize(
    "mistake",
    [
        {"watches": [None]},
        {"watches": [{"name": "w"}, None, "cat"]},
        {"watches": [{"name": "w", "labels": "cat"}]},
        {"watches": "cat", "allow": 5, "deny": [None, {}]},
        {"model": None, "fitt": "crop"},
        {"source": None, "model": {"edgetpu": None, "pat": 1}},
        {"source": "folder", 7: 7},
    ],
)
def test_what_is_right_beside_a_mistake_is_kept(mistake: dict[Any, Any]) -> None:
    part = sound_part({**GOOD, "fit": "stretch", **mistake}, CONTEXT)
    assert part is not None
    assert part.section.name == "a"
    assert part.section.fit == "stretch"
    assert not part.clean


def test_what_is_right_is_clean() -> None:
    part = sound_part(GOOD, CONTEXT)
    assert part is not None
    assert part.clean
    assert part.model_known
