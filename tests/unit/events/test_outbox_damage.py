"""The outbox with damaged or missing files."""

from __future__ import annotations

import logging
import os
import sqlite3

import pytest
from outbox_box import Box, fill, waiting


def test_numbers_are_not_given_again_when_the_database_is_gone(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    for suffix in ("", "-wal", "-shm"):
        box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
    first = fill(box(), 1)[0]
    assert 3 < first <= 2 * 1000 + 3
    assert "gone" in caplog.text


def test_numbers_are_not_given_again_when_only_the_reserved_block_is_known(box: Box) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    box.path.unlink()
    box.path.with_name(box.path.name + ".last").write_bytes(b"garbage")
    assert fill(box(), 1)[0] > 3


def test_a_truncated_log_loses_its_events_but_gives_no_number_twice(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    outbox = box()
    fill(outbox, 5)
    wal = box.path.with_name(box.path.name + "-wal")
    before = wal.stat().st_size
    fill(outbox, 20)
    box.crash(outbox)
    os.truncate(wal, before)
    outbox = box()
    assert waiting(outbox) == [1, 2, 3, 4, 5]
    assert fill(outbox, 1)[0] > 25
    assert "the newest may be lost" in caplog.text


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + os.urandom(8192)])
def test_garbage_is_set_aside_and_a_new_database_started(
    box: Box, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    box.path.write_bytes(content)
    outbox = box()
    assert outbox.durable
    assert fill(outbox, 1)[0] > 3
    aside = [one for one in box.path.parent.iterdir() if ".corrupt-" in one.name]
    assert len(aside) == 1
    assert aside[0].read_bytes() == content
    assert [record.levelno for record in caplog.records if "set aside" in record.message] == [logging.ERROR]


def test_only_the_newest_two_broken_databases_are_kept(box: Box) -> None:
    for _ in range(4):
        box.path.parent.mkdir(exist_ok=True)
        box.path.write_bytes(b"garbage" * 100)
        box.clock.pass_s(1)
        box().close()
    assert len([one for one in box.path.parent.iterdir() if ".corrupt-" in one.name]) == 2


@pytest.mark.parametrize(
    "change", ["PRAGMA user_version = 2", "PRAGMA application_id = 7", "DROP TABLE events", "DELETE FROM ledger"]
)
def test_a_database_of_another_kind_is_set_aside(box: Box, change: str) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    connection = sqlite3.connect(box.path)
    connection.execute(change)
    connection.commit()
    connection.close()
    outbox = box()
    assert fill(outbox, 1)[0] > 3
    assert any(".corrupt-" in one.name for one in box.path.parent.iterdir())


def break_a_page(box: Box) -> None:
    """Change the 400th event's number behind the database's back."""
    content = bytearray(box.path.read_bytes())
    place = content.index(b'"seq":400,')
    content[place : place + 10] = b'"seq":444,'
    box.path.write_bytes(content)


def test_a_broken_page_costs_only_what_was_on_it(box: Box) -> None:
    outbox = box()
    fill(outbox, 500)
    outbox.close()
    break_a_page(box)
    outbox = box()
    assert waiting(outbox) == [one for one in range(1, 501) if one != 400]
    assert outbox.lost == {"corrupt": 1}
    assert outbox.durable


def test_an_open_database_that_is_overwritten_is_replaced(box: Box) -> None:
    outbox = box()
    fill(outbox, 2000)
    outbox.acknowledge(waiting(outbox)[:1000])
    with sqlite3.connect(box.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    box.path.write_bytes(os.urandom(box.path.stat().st_size))
    given = fill(outbox, 50)
    found = waiting(outbox)
    assert given == list(range(2001, 2051))
    assert found[-50:] == given
    assert outbox.durable
    assert outbox.lost["corrupt"] == 1050 - len(found)
    outbox.close()
    assert fill(box(), 1) == [2051]


def test_the_newest_broken_database_is_kept_though_the_clock_was_set_back(box: Box) -> None:
    for stamp in ("20270101T000000.000000Z", "20270102T000000.000000Z"):
        box.path.parent.mkdir(exist_ok=True)
        box.path.with_name(f"{box.path.name}.corrupt-{stamp}").write_bytes(b"an older one")
    outbox = box()
    fill(outbox, 500)
    outbox.close()
    break_a_page(box)
    outbox = box()
    assert len(waiting(outbox)) == 499, "the clock says 2026: what was set aside just now looks oldest"
    aside = sorted(one.name for one in box.path.parent.iterdir() if ".corrupt-" in one.name)
    assert len(aside) == 2
    assert ".corrupt-2026" in aside[0]


@pytest.mark.parametrize("record", [b"00000000000000099999 00000000\n", b"00000000000000099999", b"9" * 32, b""])
def test_a_damaged_counter_is_ignored(box: Box, record: bytes) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    for suffix in (".last", ".seq"):
        box.path.with_name(box.path.name + suffix).write_bytes(record)
    assert fill(box(), 1) == [4]
