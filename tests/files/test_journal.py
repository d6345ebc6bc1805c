"""The journal: no record is lost or made twice, and there is one writer."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from p2r.errors import StoreError
from p2r.files.journal import Journal, read_journal

WRITER = """
import sys
from p2r.files.journal import Journal
with Journal(sys.argv[1]) as journal:
    for n in range(100_000):
        if str(n) not in journal:
            journal.append(str(n), {"n": n, "text": "x" * (n % 5000)})
            print(n, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "generate.jsonl"


def test_records_survive_closing_in_order(path):
    with Journal(path) as journal:
        journal.append("q2/0", {"text": "blau — \u2028 青\ud800\n"})
        journal.append_many([("q1/0", {"n": 1}), ("q1/1", {"n": None})])
    with Journal(path) as journal:
        assert journal.keys() == {"q1/0", "q1/1", "q2/0"}
        assert "q1/1" in journal and "q3/0" not in journal and len(journal) == 3
        assert list(journal.records()) == [
            ("q2/0", {"text": "blau — \u2028 青\ud800\n"}),
            ("q1/0", {"n": 1}),
            ("q1/1", {"n": None}),
        ]


def test_a_key_is_written_once(path):
    with Journal(path) as journal:
        journal.append("a", {"n": 1})
        with pytest.raises(StoreError, match="'a' is already in the journal"):
            journal.append("a", {"n": 2})
        with pytest.raises(StoreError, match="'b' is already"):
            journal.append_many([("b", {}), ("b", {})])
        assert list(journal.records()) == [("a", {"n": 1})]


@pytest.mark.parametrize("record", [{"x": float("nan")}, {"x": object()}])
def test_a_record_that_json_cannot_hold_is_refused_and_nothing_is_written(path, record):
    with Journal(path) as journal:
        with pytest.raises(StoreError, match="record 'b' cannot be written as JSON"):
            journal.append_many([("a", {}), ("b", record)])
        assert len(journal) == 0 and path.read_bytes() == b""


@pytest.mark.parametrize("cut", [1, 10, 20])
def test_an_unfinished_last_line_is_cut_off_and_its_work_repeated(path, cut, caplog):
    with Journal(path) as journal:
        journal.append("a", {"n": 1})
        journal.append("b", {"n": 2})
    path.write_bytes(path.read_bytes()[:-cut])
    assert [key for key, _ in read_journal(path)] == ["a"], "readers skip it without repair"
    with caplog.at_level(logging.WARNING), Journal(path) as journal:
        assert journal.keys() == {"a"}
        journal.append("b", {"n": 3})
    assert "unfinished last line" in caplog.text
    assert list(read_journal(path)) == [("a", {"n": 1}), ("b", {"n": 3})]


@pytest.mark.parametrize(
    "line", [b"{broken", b'{"key": 1, "record": {}}', b'{"key": "x"}', b"[1]", b"\xff\xfe", b""]
)
def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(path, line):
    good = [json.dumps({"key": key, "record": {}}).encode() for key in "ab"]
    path.parent.mkdir()
    path.write_bytes(b"\n".join([good[0], line, good[1]]) + b"\n")
    for opening in (lambda: Journal(path), lambda: list(read_journal(path))):
        with pytest.raises(StoreError, match="line 2"):
            opening()
    path.write_bytes(b"\n".join(good) + b"\n")
    Journal(path).close()  # the failed opening kept no lock


def test_a_repeated_key_in_the_file_is_an_error(path):
    path.parent.mkdir()
    path.write_bytes(b'{"key": "a", "record": {}}\n' * 2)
    with pytest.raises(StoreError, match="line 2: key 'a' occurs a second time"):
        Journal(path)


def test_a_second_writer_is_refused_and_readers_are_not(path):
    with Journal(path) as journal:
        journal.append("a", {})
        with pytest.raises(StoreError, match="another program is writing"):
            Journal(path)
        assert [key for key, _ in read_journal(path)] == ["a"]
    Journal(path).close()


def test_a_worker_that_outlives_a_killed_writer_does_not_keep_the_lock(path):
    program = """
import os, sys, time
from p2r.files.journal import Journal
journal = Journal(sys.argv[1])
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    worker = int(writer.stdout.readline())
    try:
        with pytest.raises(StoreError, match="another program is writing"):
            Journal(path)
        writer.kill()
        writer.wait()
        os.kill(worker, 0)
        Journal(path).close()
    finally:
        os.kill(worker, signal.SIGKILL)
        writer.stdout.close()


def test_a_failed_write_is_undone(path, monkeypatch):
    real_write = os.write

    def full_disk(descriptor, data):
        real_write(descriptor, bytes(data)[:7])
        raise OSError(28, "No space left on device")

    with Journal(path) as journal:
        journal.append("a", {})
        monkeypatch.setattr(os, "write", full_disk)
        with pytest.raises(OSError, match="No space left"):
            journal.append("b", {})
        monkeypatch.undo()
        assert "b" not in journal
        journal.append("c", {})
    assert [key for key, _ in read_journal(path)] == ["a", "c"]


def test_a_missing_or_closed_journal_is_an_error(path):
    with pytest.raises(StoreError, match="no journal at"):
        read_journal(path)
    journal = Journal(path)
    journal.close()
    with pytest.raises(StoreError, match="is closed"):
        journal.append("a", {})


def test_kills_lose_no_record_and_repeat_none(path):
    acknowledged: list[str] = []
    for moment in (0.05, 0.15, 0.3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        acknowledged.append(writer.stdout.readline().strip())
        time.sleep(moment)
        writer.kill()
        acknowledged += writer.communicate()[0].split()
    with Journal(path) as journal:
        keys = [key for key, _ in journal.records()]
    assert keys == [str(n) for n in range(len(keys))]
    assert set(acknowledged) <= set(keys) and len(acknowledged) == len(set(acknowledged)) >= 3
