import os
import resource
import time
from pathlib import Path

import pytest
import yaml
from config_files import damaged, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_classifierd.config.loading import yaml_tree
from edge_classifierd.config.loading.load import load
from edge_classifierd.errors import ConfigurationError, printable

_FILES = int(os.environ.get("FUZZ_FILES", "150"))  # bench/fuzz_config.py runs 10,000


def _loads(path: Path) -> bool:
    try:
        load(path)
    except ConfigurationError as error:
        found = error.problems
    else:
        return True
    assert found
    assert all(problem.message and printable(str(problem)) == str(problem) for problem in found)
    return False


def test_damaged_files_end_as_a_document_or_as_problems_soon_and_in_little_memory(tmp_path: Path) -> None:
    outcomes = set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(_FILES):
        path = written(tmp_path, damaged(seed))
        start = time.process_time()
        outcomes.add(_loads(path))
        assert time.process_time() - start < 10, f"seed {seed}"
    assert outcomes == {True, False}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


_YAML = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["folder", "v4l2", "5m"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "source", "type", "path", "watches", "labels", "pipelines", "mqtt", "tls", "x", "region"]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["device", "mqtt", "outbox", "pipelines"]), _YAML))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_structure_ends_as_a_document_or_as_problems(tmp_path: Path, data: object) -> None:
    _loads(written(tmp_path, yaml.safe_dump(data, allow_unicode=True)))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("loader", ["SafeLoader", "CSafeLoader"])
def test_any_bytes_end_as_a_document_or_as_problems(tmp_path: Path, loader: str, content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_tree.compose, "__defaults__", (getattr(yaml, loader),))
        _loads(written(tmp_path, content))
