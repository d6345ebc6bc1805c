"""A folder of cached files: its limit, also where some files belong to another user."""

from __future__ import annotations

import os
from pathlib import Path

from p2r.files.disk_cache import DiskCache


def test_a_file_that_may_not_be_deleted_does_not_stop_the_limit(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path, ".bin", max_bytes=1000)
    for age, key in enumerate("abcdefgh"):
        cache.write(key, lambda file: file.write(bytes(100)))
        os.utime(cache.path(key), (age, age))
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == cache.path("a"):
            raise PermissionError(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    cache.write("i", lambda file: file.write(bytes(400)))  # 1,200 bytes: three must go
    assert [key for key in "abcdefghi" if cache.path(key).is_file()] == [*"aefghi"]
