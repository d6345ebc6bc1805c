"""Atomic writes: a file is complete or unchanged."""

import gzip
import os
import threading

import pytest

from p2r.errors import UserError
from p2r.files.atomic import draft_of, read_json, replacing, write_json, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.jsonl"]
    with replacing(path) as file:
        file.write("new\r\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == b"new\r\n" and os.listdir(tmp_path) == ["x.jsonl"]


def test_text_bytes_and_json_come_back_and_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "t.txt", "é\n")
    assert (tmp_path / "a" / "t.txt").read_bytes() == "é\n".encode()
    with replacing(tmp_path / "b.bin", "wb", sync=False) as file:
        file.write(b"\xff")
    assert (tmp_path / "b.bin").read_bytes() == b"\xff"
    write_json(tmp_path / "c.json", {"é": [1, None]})
    assert read_json(tmp_path / "c.json") == {"é": [1, None]}
    with pytest.raises(ValueError, match="mode must be"), replacing(tmp_path / "d", "a"):
        pass


def test_a_name_in_gz_is_compressed_and_equal_data_gives_equal_files(tmp_path):
    for name in ("a.json.gz", "b.json.gz"):
        write_text(tmp_path / name, "[1]\n" * 100)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.json.gz", "b.json.gz"))
    assert first == second and gzip.decompress(first) == b"[1]\n" * 100


def test_the_data_is_on_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    calls = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), real_sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), real_replace(a, b)))
    write_text(tmp_path / "x", "x")
    assert calls == ["fsync", "replace"]


def test_threads_that_write_one_file_do_not_mix_their_drafts(tmp_path):
    path, both = tmp_path / "x", threading.Barrier(2)

    def write(text: str) -> None:
        with draft_of(path) as draft:
            draft.write_text(text)
            both.wait(60)
            assert draft.read_text() == text

    threads = [threading.Thread(target=write, args=(c * 1000,)) for c in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000) and os.listdir(tmp_path) == ["x"]


def test_a_missing_or_damaged_json_file_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json is damaged.*delete it"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"no .*y\.json: run the stage"):
        read_json(tmp_path / "y.json")
