"""Media paths are untrusted: they must stay below the media root."""

import mimetypes
from pathlib import Path

import pytest

from p2r.engines.openai_api import file_url
from p2r.errors import MediaError
from p2r.files.media import find_media_fault, media_exists, media_type, resolve_media


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "media"
    (root / "clips").mkdir(parents=True)
    (root / "clips" / "a.mp4").write_bytes(b"video")
    (tmp_path / "secret.txt").write_text("secret")
    return root


@pytest.mark.parametrize("path", ["clips/a.mp4", "./clips/a.mp4", "clips/..a.mp4", "absent.mp4"])
def test_a_path_below_the_root_is_joined(root, path):
    assert resolve_media(root, path) == (root / path).resolve()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("/etc/passwd", "absolute"),
        ("~/secret.txt", "absolute"),
        ("../secret.txt", r"'\.\.'"),
        ("clips/../../secret.txt", r"'\.\.'"),
        ("clips/a\0.mp4", "NUL"),
        (".", "out of the media root"),
    ],
)
def test_a_path_out_of_the_root_is_refused_with_its_reason(root, path, reason):
    with pytest.raises(MediaError, match=reason):
        resolve_media(root, path)


def test_links_must_not_leave_the_root(root):
    (root / "inside.mp4").symlink_to("clips/a.mp4")
    (root / "outside.txt").symlink_to("../secret.txt")
    (root / "up").symlink_to("..")
    assert resolve_media(root, "inside.mp4") == (root / "clips" / "a.mp4").resolve()
    for path in ("outside.txt", "up/secret.txt"):
        with pytest.raises(MediaError, match="symbolic link"):
            resolve_media(root, path)


def test_loops_and_overlong_names_are_refused_or_stay_inside(root):
    (root / "loop").symlink_to("loop")
    for path in ("loop/a.mp4", "x" * 2**20, "half \ud800.mp4", "\u202e4pm.a", "..\\secret.txt"):
        try:
            assert root.resolve() in resolve_media(root, path).parents
        except MediaError as error:
            assert error.path == path and error.reason


def test_the_root_itself_may_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert resolve_media(tmp_path / "link", "clips/a.mp4") == (root / "clips" / "a.mp4").resolve()


def test_a_path_that_cannot_be_used_has_no_file(root):
    assert media_exists(root, "clips/a.mp4") and find_media_fault(root, "clips/a.mp4") is None
    for path in ("", "absent.mp4", "../secret.txt", "x" * 300, f"{'x' * 300}/a.mp4"):
        assert not media_exists(root, path)
    assert find_media_fault(root, "absent.mp4") == "no file absent.mp4"
    assert "'..'" in find_media_fault(root, "../secret.txt")


def test_clips_have_their_types_on_every_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_, **__: (None, None))
    clip = tmp_path / "a.MKV"
    clip.write_bytes(b"x")
    assert file_url(str(clip)).startswith("data:video/x-matroska;base64,")
    assert media_type(Path("a.webp")) == "image/webp" and media_type(Path("a.txt")) == ""
