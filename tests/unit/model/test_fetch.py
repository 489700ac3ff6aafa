"""Fetching models from a real HTTP server on the loopback that misbehaves when told to."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.errors import FetchError, UsageError
from edge_classifierd.model.catalogue import Entry, blob_id
from edge_classifierd.model.fetch import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 4000
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
ENTRY = Entry("tiny_quant", "things", 128, None, None, edgetpu=False, blob=BLOB, size=len(CONTENT))


class Mirror(ThreadingHTTPServer):
    """Serves CONTENT; `cuts` says after how many bytes each of the next connections is cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cuts: list[int] = []
        self.ranges = True
        self.lengths = True
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if self.path != "/tiny_quant.tflite":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        rest = server.content[start:]
        if server.lengths:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def test_a_model_is_fetched_whole_and_left_alone_the_second_time(mirror: Mirror, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    done = fetch(ENTRY, tmp_path / "new", mirror=mirror.url + "/", progress=lambda *at: told.append(at))
    assert done.fresh
    assert done.path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert not fetch(ENTRY, tmp_path / "new", mirror=mirror.url).fresh
    assert len(mirror.asked) == 1
    assert names(tmp_path / "new") == ["tiny_quant.tflite"]


def test_a_cut_connection_is_gone_on_with_by_range(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cuts = [100_000, 200_000]
    assert fetch(ENTRY, tmp_path, mirror=mirror.url).path.read_bytes() == CONTENT
    assert mirror.asked == [None, "bytes=100000-", "bytes=300000-"]


def test_a_fetch_that_was_killed_is_gone_on_with_by_the_next_one(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / ".tiny_quant.tflite.part").write_bytes(CONTENT[:777])
    fetch(ENTRY, tmp_path, mirror=mirror.url)
    assert mirror.asked == ["bytes=777-"]


def test_a_server_without_ranges_sends_the_whole_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges = False
    (tmp_path / ".tiny_quant.tflite.part").write_bytes(CONTENT[:777])
    assert fetch(ENTRY, tmp_path, mirror=mirror.url).path.read_bytes() == CONTENT


def test_a_complete_partial_file_of_unknown_size_is_used(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / ".tiny_quant.tflite.part").write_bytes(CONTENT)
    fetch(dataclasses.replace(ENTRY, size=None), tmp_path, mirror=mirror.url)
    assert mirror.asked == [f"bytes={len(CONTENT)}-"]


def test_connections_that_bring_nothing_end_it_and_the_part_is_kept(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cuts = [50_000, *[0] * 20]
    with pytest.raises(FetchError, match="goes on after the 50,000 bytes"):
        fetch(ENTRY, tmp_path, mirror=mirror.url)
    assert len(mirror.asked) == 6
    assert (tmp_path / ".tiny_quant.tflite.part").stat().st_size == 50_000
    mirror.cuts = []
    assert fetch(ENTRY, tmp_path, mirror=mirror.url).path.read_bytes() == CONTENT


def test_a_wrong_download_is_deleted_and_the_old_file_stays(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "tiny_quant.tflite").write_bytes(b"an older version")
    mirror.content = CONTENT[:-1] + b"!"
    with pytest.raises(FetchError, match="the content is not that of the catalogue"):
        fetch(ENTRY, tmp_path, mirror=mirror.url)
    assert (tmp_path / "tiny_quant.tflite").read_bytes() == b"an older version"
    assert names(tmp_path) == ["tiny_quant.tflite"]
    mirror.content = CONTENT
    assert blob_id(fetch(ENTRY, tmp_path, mirror=mirror.url).path) == BLOB


@pytest.mark.parametrize("lengths", [True, False])
def test_a_file_that_is_too_large_is_refused_before_it_fills_the_disk(
    mirror: Mirror, tmp_path: Path, lengths: bool
) -> None:
    mirror.content = CONTENT * 20
    mirror.lengths = lengths
    with pytest.raises(FetchError, match="bytes where" if lengths else "sends more than"):
        fetch(ENTRY, tmp_path, mirror=mirror.url)
    assert names(tmp_path) == []


def test_a_mirror_without_the_file_or_without_a_server_is_one_sentence(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404 not found; check the network, or name another --mirror"):
        fetch(dataclasses.replace(ENTRY, name="other"), tmp_path, mirror=mirror.url)
    with pytest.raises(FetchError, match=r"refused.*check the network"):
        fetch(ENTRY, tmp_path, mirror="http://127.0.0.1:1")
    assert names(tmp_path) == []
    for address in ("file:///etc", "mirror.local/models", "https://"):
        with pytest.raises(UsageError, match="not an address of a mirror"):
            fetch(ENTRY, tmp_path, mirror=address)


def test_two_fetches_of_one_file_do_not_mix(mirror: Mirror, tmp_path: Path) -> None:
    with (tmp_path / ".tiny_quant.tflite.part").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="another process downloads it"):
            fetch(ENTRY, tmp_path, mirror=mirror.url)
    assert mirror.asked == []


def test_a_full_disk_is_one_sentence_and_the_partial_file_is_removed(mirror: Mirror, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        with pytest.raises(FetchError, match=r"the disk is full .*1.0 MB are needed"):
            fetch(ENTRY, tmp_path, mirror=mirror.url)
        assert names(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_is_one_sentence(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="name a folder that can be written"):
        fetch(ENTRY, tmp_path / "file" / "models", mirror=mirror.url)
