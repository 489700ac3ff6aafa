"""The catalogue of models that can be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_classifierd.errors import UsageError
from edge_classifierd.model.bundle import BUNDLED_MODELS
from edge_classifierd.model.catalogue import blob_id, catalogue, find_entry

if TYPE_CHECKING:
    from pathlib import Path


def test_every_entry_has_a_checksum_and_a_version_for_the_other_processor() -> None:
    entries = {entry.name: entry for entry in catalogue()}
    assert len(entries) == 52
    assert len({entry.blob for entry in entries.values()}) == 52
    for entry in entries.values():
        assert len(bytes.fromhex(entry.blob)) == 20
        assert entries[entry.twin].edgetpu is not entry.edgetpu
        assert 96 <= entry.side <= 300
        assert entry.size is None or 400_000 < entry.size < 60_000_000


def test_the_published_figures_are_those_of_the_field() -> None:
    figures = {entry.name: (entry.top1, entry.top5) for entry in catalogue()}
    assert figures["mobilenet_v1_1.0_224_quant"] == (70.0, 89.0)
    assert figures["mobilenet_v2_1.0_224_quant_edgetpu"] == (70.8, 89.9)
    assert figures["inception_v4_299_quant"] == (79.5, 93.9)


def test_the_catalogue_agrees_with_the_list_of_blobs(shared: Path) -> None:
    lines = (shared / "data/coral/blobs.txt").read_text().splitlines()
    listed = dict(reversed(line.split()) for line in lines if not line.startswith("#"))  # type: ignore[misc]
    assert {entry.file_name: entry.blob for entry in catalogue()} == listed


def test_real_files_have_the_ids_and_sizes_of_the_catalogue(shared: Path) -> None:
    found = [entry for entry in catalogue() if (shared / "data/coral" / entry.file_name).is_file()]
    assert len(found) >= 5
    for entry in found:
        file = shared / "data/coral" / entry.file_name
        assert (blob_id(file), file.stat().st_size) == (entry.blob, entry.size)


def test_a_blob_id_is_gits(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello\n")
    assert blob_id(tmp_path / "f") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_names_are_found_with_and_without_ending_and_a_slip_names_its_neighbours() -> None:
    assert find_entry("inception_v1_224_quant.tflite") == find_entry("inception_v1_224_quant")
    with pytest.raises(UsageError, match=r"did you mean `mobilenet_v2_1\.0_224_quant`"):
        find_entry("mobilnet_v2_1.0_224_quant")
    with pytest.raises(UsageError, match="models list"):
        find_entry("zzzzzzzz")


@pytest.mark.parametrize(("bundled", "file_name"), BUNDLED_MODELS.items())
def test_the_bundled_models_that_the_list_shows_need_no_fetching(bundled: str, file_name: str) -> None:
    for name in (file_name, file_name.removesuffix(".tflite")):
        with pytest.raises(UsageError, match=f"comes with this program .* `model: {{bundled: {bundled}}}` uses it"):
            find_entry(name)
