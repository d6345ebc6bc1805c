"""`p2r data get`: real bytes over HTTP from a small hub on this machine."""

from __future__ import annotations

import json
import os
import random
from types import SimpleNamespace

import pytest
from hub_server import REVISION, serve_hub, use_hub

from p2r.cli import run_cli
from p2r.datasets.public import known_sets

SET = "Video-R1/Video-R1-data"
CLIP = random.Random(0).randbytes(300_000)
FILES = {"Video-R1-260k.json": b"[]", "clips/a [1].zip": CLIP, "README.md": b"# Video-R1"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve_hub(SET, dict(FILES)) as served:
        use_hub(monkeypatch, served)
        monkeypatch.chdir(tmp_path)
        yield served


def test_get_shows_license_size_and_place_then_gets_the_texts(hub, tmp_path, capsys):
    assert run_cli(["data", "get", "video-r1", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"{SET}, revision {REVISION[:12]}, license: apache-2.0" in said
    assert "2 of 3 files" in said and "to data/Video-R1-data" in said
    assert not hub.sent and not os.listdir(tmp_path)
    assert run_cli(["data", "get", "video-r1"]) == 0
    folder = tmp_path / "data" / "Video-R1-data"
    assert (folder / "Video-R1-260k.json").read_bytes() == b"[]"
    assert not (folder / "clips").exists()
    assert capsys.readouterr().out.index("apache-2.0") == said.index("apache-2.0")


@pytest.mark.slow  # the client waits a second before it tries again
def test_a_broken_connection_continues_and_every_byte_is_checked(hub, tmp_path, capsys):
    command = ["data", "get", SET, "--out", "x", "--only", "clips/*", "--json"]
    hub.longest = 200_000
    assert run_cli(command) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["x/clips/a [1].zip"]
    assert (tmp_path / "x" / "clips" / "a [1].zip").read_bytes() == CLIP
    assert hub.sent[-1] == ("clips/a [1].zip", "bytes=200000-")
    before = len(hub.sent)
    assert run_cli(command) == 0 and len(hub.sent) == before, "a finished download is kept"
    hub.stated["clips/a [1].zip"] = "0" * 64
    assert run_cli([*command[:3], "--out", "y", *command[5:]]) == 2
    assert "differs from the file on the hub" in capsys.readouterr().err


def test_a_set_that_cannot_be_downloaded_is_an_error_at_once(hub, tmp_path, capsys, monkeypatch):
    from p2r.datasets import public

    for arguments, said in (
        (["video-r2"], "no public set 'video-r2': use one of video-r1,"),
        ([SET, "--only", "*.tar"], "has 3 files, but none matches *.tar"),
        (["some/absent"], "the hub refused 'some/absent'"),
    ):
        assert run_cli(["data", "get", *arguments]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setattr(public.shutil, "disk_usage", lambda place: SimpleNamespace(free=1))
    assert run_cli(["data", "get", SET, "--media"]) == 2
    assert "GB free: give another --out" in capsys.readouterr().err
    hub.shutdown()
    hub.server_close()
    assert run_cli(["data", "get", SET]) == 2
    assert "the hub cannot be reached for the dataset" in capsys.readouterr().err


def test_names_and_license_of_a_stranger_are_only_text(hub, tmp_path, capsys):
    hub.license = "mit\x1b[2J\x1b]0;owned\x07"
    for name in ("a\x1b[31m.json", "b*.json", "b-large.json"):
        hub.add(name, b"{}")
    assert run_cli(["data", "get", SET, "--out", "x", "--only", "a*", "--only", "b[*]*"]) == 0
    said = capsys.readouterr().out
    assert "license: mit[U+001B][2J" in said and "a[U+001B][31m.json" in said
    assert "\x1b" not in said and "\x07" not in said
    assert (tmp_path / "x" / "b*.json").is_file()
    assert not (tmp_path / "x" / "b-large.json").exists()
    assert run_cli(["data", "get", SET, "--only", "b*", "--dry-run"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_benchmarks_have_their_address_from_their_own_file():
    known = known_sets()
    assert known["mvbench"] == "OpenGVLab/MVBench" and "playground" not in known
    assert all(address.count("/") == 1 and " " not in address for address in known.values())
