"""The choice between CPU and Edge TPU for `model.device`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from failover_fakes import RED

from edge_classifierd.errors import MissingError, ModelError
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.factory import make_classifier

if TYPE_CHECKING:
    from stand_in import Machine

    from edge_classifierd.model.bundle import ModelBundle

pytestmark = pytest.mark.usefixtures("machine")


@pytest.mark.parametrize("device", ["usb:0", "edgetpu"])
def test_a_plain_model_on_a_tpu_is_one_sentence(pair: tuple[ModelBundle, ModelBundle], device: str) -> None:
    with pytest.raises(ModelError, match="is not compiled for the Edge TPU; give the file with `_edgetpu`"):
        make_classifier(pair[1], device)


def test_auto_with_a_plain_model_is_the_cpu(pair: tuple[ModelBundle, ModelBundle]) -> None:
    assert isinstance(make_classifier(pair[1], "auto"), CpuClassifier)


def test_a_compiled_model_without_tpu_and_cpu_model_is_one_sentence(
    pair: tuple[ModelBundle, ModelBundle], machine: Machine
) -> None:
    machine.remove("1-1")
    with pytest.raises(MissingError, match="none is plugged in; plug one in, or give the CPU version"):
        make_classifier(pair[0], "auto")


def test_a_compiled_model_with_device_cpu_runs_its_cpu_model(pair: tuple[ModelBundle, ModelBundle]) -> None:
    assert make_classifier(pair[0], "cpu", cpu_bundle=pair[1]).classify(RED).accelerator == "cpu"
    with pytest.raises(MissingError, match="cannot run on the CPU"):
        make_classifier(pair[0], "cpu")
