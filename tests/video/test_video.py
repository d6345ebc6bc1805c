"""`p2r.video`: which frames are sampled, their times and sizes, and why a file cannot be read."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import decode_all, numbered, read_number, write_clip
from measures import shared_data
from PIL import Image

from p2r.errors import VideoError
from p2r.video import FrameCache, check_media, fit_size, is_animated, sample_frames, uniform_indices
from p2r.video.colour import to_sdr
from p2r.video.decoders import DecodeFailure
from p2r.video.sampling import Wanted, choose_frames

NATIVE = {"max_pixels": 200 * 200, "factor": 20}  # 160 x 120 stays as it is
HDR10 = "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"
OPEN_GOP = "open-gop=1:bframes=3:keyint=10:min-keyint=10:scenecut=0"


def difference(shown: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean difference in grey levels from frames that another library resized."""
    resized = Image.fromarray(truth).resize(shown.shape[1::-1], Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(resized).astype(float) - shown).mean())


def save(picture: np.ndarray | Image.Image, path: Path, **options) -> Path:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


# ---- which frames

KINDS = {
    "closed GOPs": ("a.mp4", {"g": "10", "bf": "3"}, "decord"),
    "one long GOP": ("a.mp4", {"g": "1000"}, "decord"),
    "header first": ("a.mp4", {"movflags": "faststart"}, "decord"),
    "fragments": ("a.mp4", {"g": "10", "movflags": "frag_keyframe+empty_moov"}, "decord"),
    "late start": ("a.mkv", {"times": lambda number: 5000 + 100 * number}, "decord"),
    "odd sides": ("a.mp4", {"size": (101, 77), "pixels": "yuv444p"}, "decord"),
    "VP9": ("a.webm", {"codec": "libvpx-vp9"}, "decord"),
    "VP8 with hidden frames": ("a.webm", {"codec": "libvpx", "auto-alt-ref": "1"}, "pyav"),
    "10 bit": ("a.mkv", {"codec": "libx265", "pixels": "yuv420p10le"}, "decord"),
    "open GOPs, H.264": ("a.mp4", {"count": 100, "x264-params": OPEN_GOP}, "pyav"),
    "open GOPs, HEVC": (
        "a.mp4",
        {"count": 100, "codec": "libx265", "x265-params": OPEN_GOP + ":log-level=none"},
        "pyav",
    ),
    "intra refresh": ("a.mp4", {"count": 100, "x264-params": "intra-refresh=1:keyint=10"}, "pyav"),
    "AVI with B-frames": ("a.avi", {"codec": "mpeg4", "bf": "2", "g": "12"}, "pyav"),
    "MPEG-TS": ("a.ts", {"bf": "2", "g": "10"}, "pyav"),
    "MPEG-PS": ("a.mpg", {"codec": "mpeg2video", "rate": 25, "bf": "2"}, "pyav"),
    "no container": ("a.h264", {"bf": "2"}, "pyav"),
    "AV1": ("a.mp4", {"codec": "libsvtav1"}, "pyav"),
    "GIF": ("a.gif", {"codec": "gif", "pixels": "rgb8"}, "pyav"),
    "lossless": ("a.mkv", {"codec": "ffv1", "pixels": "bgr0"}, "pyav"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_times_equal_those_of_a_full_decode(kind, tmp_path):
    name, options, decoder = KINDS[kind]
    path = write_clip(tmp_path / name, **options)
    truth = decode_all(path)
    for max_frames in (5, 16, 1000):
        found = sample_frames(path, max_frames, **NATIVE)
        assert (found.decoder, found.total_frames, found.note) == (decoder, len(truth), "")
        assert found.indices == uniform_indices(len(truth), max_frames)
        assert [read_number(shown) for shown in found.frames] == found.indices
        if truth[0][0] is not None:
            expected = [truth[index][0] for index in found.indices]
            assert found.timestamps == pytest.approx(expected, abs=1e-5)
        else:
            assert found.timestamps == pytest.approx([i / 10 for i in found.indices])


@pytest.mark.slow
def test_every_shared_clip_gives_the_right_frames_or_a_reason():
    folder = shared_data("videos")
    for clip in json.loads((folder / "manifest.json").read_text()):
        path = folder / clip["file"]
        if clip["codec"] is None:
            with pytest.raises(VideoError, match=r"is empty|cannot be opened as a video"):
                sample_frames(path)
            continue
        found = sample_frames(path)
        truth = decode_all(path)
        if clip["decode_error"]:  # see test_damaged_packets_are_skipped_and_the_rest_is_sampled
            continue
        assert found.total_frames == clip["frames_decoded"] == len(truth)
        assert found.indices == uniform_indices(len(truth), 16)
        assert found.timestamps[0] == clip["first_pts"]
        assert found.timestamps[-1] == pytest.approx(clip["last_pts"], abs=1e-3)
        expected = [truth[index][0] for index in found.indices]
        assert found.timestamps == pytest.approx(expected, abs=1e-5)
        for shown, index in zip(found.frames, found.indices, strict=True):
            assert difference(shown, truth[index][1]) < 4, (clip["file"], index)
        assert not found.note


def test_damaged_packets_are_skipped_and_the_rest_is_sampled():
    found = sample_frames(shared_data("videos") / "corrupted_midway.mp4", 8)
    assert found.note.startswith("49 of 50 frames readable: ")
    assert found.indices == uniform_indices(49, 8)
    assert found.timestamps[-1] == 4.9


def test_a_clip_goes_on_after_a_damaged_packet(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 60, g="10", bf="0")
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    place, size = packets[20]  # a keyframe: up to the next one, nothing can be decoded
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    found = sample_frames(path, 16, **NATIVE)
    assert "of 60 frames readable: " in found.note
    assert found.timestamps[-1] == pytest.approx(5.9)
    whole = [
        n
        for n, t in zip(map(read_number, found.frames), found.timestamps, strict=True)
        if n == round(t * 10)
    ]
    assert len(whole) >= 13


def test_damaged_pictures_are_noted(tmp_path):
    data = bytearray(write_clip(tmp_path / "a.mp4", g="1000").read_bytes())
    start = data.index(b"mdat") + 1500
    data[start : start + 200] = bytes(range(200))
    (tmp_path / "a.mp4").write_bytes(data)
    found = sample_frames(tmp_path / "a.mp4")
    assert found.decoder == "pyav"  # decord would show neighbours in their place
    assert "damaged" in found.note or "readable" in found.note


def test_indices_are_even_from_first_to_last_without_repeats():
    assert uniform_indices(128, 4) == [0, 42, 85, 127]
    assert uniform_indices(3, 16) == [0, 1, 2]
    assert uniform_indices(100, 1) == [0]
    for total in range(1, 200):
        for count in range(1, 40):
            found = uniform_indices(total, count)
            assert len(set(found)) == len(found) == min(total, count)
            assert found[0] == 0 and (count == 1 or found[-1] == total - 1)


def test_frame_rates_come_from_the_times(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 21, times=lambda number: number * number * 10)
    found = sample_frames(path, 3)
    assert found.timestamps == pytest.approx([0, 1.96, 4])
    assert found.sampled_fps == pytest.approx(0.5)
    assert found.fps == pytest.approx(found.total_frames / found.duration)


def test_a_variable_frame_rate_is_sampled_by_time(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 40, times=lambda number: number * number * 10)
    truth = decode_all(path)
    for max_frames in (5, 16):
        found = sample_frames(path, max_frames, **NATIVE)
        assert (found.decoder, found.note) == ("decord", "variable frame rate: sampled by time")
        assert [read_number(shown) for shown in found.frames] == found.indices
        assert found.timestamps == pytest.approx([truth[i][0] for i in found.indices], abs=1e-5)
        even = np.linspace(0, truth[-1][0], max_frames)
        assert np.abs(np.array(found.timestamps) - even).max() < 0.4
    assert sample_frames(path, 1000, **NATIVE).indices == list(range(40))


def test_a_clip_frozen_for_a_long_time_still_gives_distinct_frames():
    times = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 10, 10.1]
    wanted = Wanted(max_frames=6, max_pixels=1, factor=1)
    chosen, note = choose_frames(times, wanted)
    assert len(set(chosen)) == 6 and chosen == sorted(chosen)
    assert (chosen[0], chosen[-1], note) == (0, 7, "variable frame rate: sampled by time")


# ---- a part of the clip


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_bounds_limit_the_frames_and_are_recorded(tmp_path, name):
    path = write_clip(tmp_path / name, 40, g="10")
    found = sample_frames(path, 4, start=1.0, end=1.5, **NATIVE)
    assert found.indices == [10, 12, 13, 15]
    assert [read_number(shown) for shown in found.frames] == found.indices
    assert (found.info()["start"], found.info()["end"], found.total_frames) == (1.0, 1.5, 40)
    assert not found.whole_file
    assert sample_frames(path, 2, start=3, **NATIVE).indices == [30, 39]
    assert sample_frames(path, 2, end=2, **NATIVE).indices == [0, 20]
    assert sample_frames(path, 2, start=1.52, end=1.58, **NATIVE).indices == [15]
    assert sample_frames(path, 2, start=3.5, end=99, **NATIVE).indices == [35, 39]
    assert "start" not in sample_frames(path).info()


def test_bounds_count_from_the_first_frame(tmp_path):
    path = write_clip(tmp_path / "a.mkv", 40, times=lambda number: 5000 + 100 * number)
    found = sample_frames(path, 2, start=1, end=2, **NATIVE)
    assert (found.indices, found.timestamps) == ([10, 20], [6.0, 7.0])


def test_bounds_outside_the_clip_are_refused(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 40)
    with pytest.raises(VideoError, match="the clip starts at 9 s, after the end of the video"):
        sample_frames(path, start=9, end=10)
    for bounds in ({"start": 2, "end": 1}, {"start": -1}, {"fps": 0}):
        with pytest.raises(ValueError, match="the end not before the start"):
            sample_frames(path, **bounds)


def test_the_cache_tells_the_parts_of_a_clip_apart(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 40)
    cache = FrameCache(tmp_path / "cache")
    for bounds in ({}, {"start": 1.0, "end": 2.0}, {"start": 2.0, "end": 3.0}):
        assert cache.get(path, **bounds).indices == sample_frames(path, **bounds).indices
    again = FrameCache(tmp_path / "cache").get(path, start=1.0, end=2.0)
    assert (again.start, again.end, again.indices[0]) == (1.0, 2.0, 10)


# ---- a folder of pictures


def test_a_folder_of_numbered_pictures_is_a_video(tmp_path):
    for number in range(12):  # 10 comes after 9, not after 1
        save(numbered(number, 160, 120), tmp_path / f"frame_{number}.png")
    (tmp_path / "info.txt").touch()
    found = sample_frames(tmp_path, 4, **NATIVE)
    assert [read_number(shown) for shown in found.frames] == found.indices == [0, 4, 7, 11]
    assert (found.fps, found.duration, found.total_frames) == (3.0, 4.0, 12)
    assert found.timestamps == pytest.approx([0, 4 / 3, 7 / 3, 11 / 3], abs=1e-5)
    assert sample_frames(tmp_path, 2, fps=1, start=2, end=4, **NATIVE).indices == [2, 4]
    (tmp_path / "frame_4.png").write_bytes(b"\x89PNG and nothing else")
    found = sample_frames(tmp_path, 4, **NATIVE)
    assert [read_number(shown) for shown in found.frames] == found.indices == [0, 3, 8, 11]
    assert found.timestamps == pytest.approx([0, 1, 8 / 3, 11 / 3], abs=1e-5)
    assert found.note.startswith("1 of 12 pictures skipped: the header of the picture frame_4.png")
    for number in range(12):
        (tmp_path / f"frame_{number}.png").write_bytes(b"\x89PNG and nothing else")
    with pytest.raises(VideoError, match=r"the picture frame_\d+\.png"):
        sample_frames(tmp_path, 4)


def test_frames_of_a_folder_are_read_again_if_a_picture_is_overwritten(tmp_path):
    """The time of the folder does not change then."""
    folder, cache = tmp_path / "v", FrameCache(tmp_path / "cache")
    folder.mkdir()
    for number in range(3):
        save(numbered(number, 160, 120), folder / f"frame_{number}.png")
    before = folder.stat().st_mtime_ns
    assert [read_number(shown) for shown in cache.get(folder, **NATIVE).frames] == [0, 1, 2]
    assert cache.get(folder, **NATIVE) is not None and cache.decoded == 1
    save(numbered(7, 160, 120), folder / "frame_1.png")
    os.utime(folder / "frame_1.png", ns=(1, 1))
    assert folder.stat().st_mtime_ns == before
    assert [read_number(shown) for shown in cache.get(folder, **NATIVE).frames] == [0, 7, 2]


def test_a_matroska_file_that_breaks_off_says_how_much_is_left(tmp_path):
    write_clip(tmp_path / "whole.mkv", 40)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    assert sample_frames(tmp_path / "whole.mkv", 2).note == ""
    found = sample_frames(tmp_path / "cut.mkv", 2)
    assert re.fullmatch(r"[\d.]+ of 4 seconds readable", found.note)


# ---- pixels and colours


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_pixels_that_are_not_square_become_square(name, tmp_path):
    path = write_clip(tmp_path / name, 4, size=(120, 120), aspect=Fraction(4, 3))
    found = sample_frames(path, **NATIVE)
    assert found.shape[1:3] == (120, 160)
    assert [read_number(shown) for shown in found.frames] == [0, 1, 2, 3]


def test_hdr_colours_become_those_of_sdr():
    level = np.full((2, 2, 3), 0.58 * 65535, np.uint16)  # 203 cd/m², the reference white
    white = to_sdr(level, 16, wide=True)
    assert 150 < white.min() <= white.max() < 235
    assert to_sdr(np.zeros((2, 2, 3), np.uint16), 16, wide=True).max() == 0
    assert to_sdr(np.full((1, 1, 3), 65535, np.uint16), 18, wide=True).min() >= 250
    ramp = np.linspace(0, 65535, 50).astype(np.uint16)[:, None, None].repeat(3, axis=2)
    for transfer in (16, 18):
        assert (np.diff(to_sdr(ramp, transfer, wide=True)[:, 0, 0].astype(int)) >= 0).all()


def test_an_hdr_clip_is_converted_and_noted(tmp_path):
    path = write_clip(
        tmp_path / "a.mp4",
        4,
        codec="libx265",
        pixels="yuv420p10le",
        **{
            "x265-params": "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc:log-level=none"
        },
    )
    found = sample_frames(path, **NATIVE)
    assert (found.decoder, found.note) == ("pyav", "HDR (PQ) converted to SDR")
    assert [read_number(shown) for shown in found.frames] == [0, 1, 2, 3]


# ---- upright


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("turned", [90, 180, 270])
def test_rotated_clips_are_turned_upright(name, turned, tmp_path):
    path = write_clip(tmp_path / name, 4, turned=turned)
    found = sample_frames(path, **NATIVE)
    assert found.shape[1:3] == ((120, 160) if turned == 180 else (160, 120))
    side = {90: np.s_[:, 60:], 180: np.s_[:60], 270: np.s_[:, :60]}[turned]
    red = found.frames[0, :, :, 0] > 100  # the lower half, before it was turned to the left
    assert red.mean() == pytest.approx(0.5, abs=0.02)
    assert red[side].mean() > 0.95
    assert difference(found.frames[3], decode_all(path)[3][1]) < 1


def test_a_mirrored_clip_is_mirrored_back(tmp_path):
    unit = 1 << 16
    path = write_clip(
        tmp_path / "a.mp4", 4, matrix=[-unit, 0, 0, 0, unit, 0, 160 * unit, 0, 1 << 30]
    )
    found = sample_frames(path, **NATIVE)
    assert [read_number(shown[:, ::-1]) for shown in found.frames] == [0, 1, 2, 3]


def test_the_real_rotated_clips_are_upright():
    folder = shared_data("videos")
    upright, turned = (sample_frames(folder / f"rot_{angle}.mov") for angle in (0, 90))
    assert upright.shape[1:3] == turned.shape[1:3][::-1] == (224, 420)
    phone = sample_frames(folder / "vfr_rot180_phone.mp4", 1).frames[0]
    assert phone[:80].mean() > phone[-40:].mean()  # the white wall is above the stove


# ---- size


def test_sizes_equal_those_of_qwens_smart_resize():
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    for height, width in [(320, 480), (720, 1280), (1080, 1920), (224, 224), (568, 320), (30, 900)]:
        for factor, limit in [(28, 128 * 28 * 28), (14, 3136), (28, 256 * 28 * 28)]:
            expected = smart_resize(height, width, factor, factor * factor, limit)
            found = fit_size(height, width, limit, factor)
            assert found == expected or expected[0] * expected[1] > limit


def test_every_size_fits():
    for height in [1, 2, 13, 28, 100, 1080, 4000]:
        for width in [1, 5, 27, 200, 1920]:
            if max(height, width) > 200 * min(height, width):
                with pytest.raises(ValueError, match="longer than 200:1"):
                    fit_size(height, width)
                continue
            for factor, limit in [(28, 128 * 28 * 28), (14, 3136), (28, 28 * 28)]:
                rows, columns = fit_size(height, width, limit, factor)
                assert rows % factor == columns % factor == 0 < min(rows, columns)
                assert rows * columns <= limit


def test_one_pixel_becomes_the_smallest_frame():
    found = sample_frames(shared_data("videos") / "one_pixel.mp4")
    assert found.shape == (5, 28, 28, 3)
    assert np.ptp(found.frames.reshape(5, -1, 3), axis=1).max() <= 1


def test_impossible_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1 frame of 28x28"):
        sample_frames(tmp_path / "a.mp4", max_pixels=100)


# ---- pictures


def test_a_picture_with_any_file_name_is_one_frame(tmp_path):
    picture = numbered(5, 160, 120)
    for kind in ("png", "jpeg", "webp", "bmp"):
        found = sample_frames(save(picture, tmp_path / "a.mp4", format=kind), **NATIVE)
        assert (found.shape, found.decoder, found.timestamps) == ((1, 120, 160, 3), "image", [0.0])
        assert read_number(found.frames[0]) == 5
    assert sample_frames(tmp_path / "a.mp4", min_frames=4).total_frames == 1


def test_a_video_named_as_a_picture_is_a_video(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 4).rename(tmp_path / "a.jpg")
    assert sample_frames(path).total_frames == 4


def test_pictures_follow_their_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = sample_frames(save(numbered(5, 160, 120), tmp_path / "a.jpg", exif=exif), **NATIVE)
    assert difference(found.frames[0], np.rot90(numbered(5, 160, 120), -1)) < 4


def test_pictures_of_any_mode_become_rgb(tmp_path):
    clear = np.zeros((120, 160, 4), np.uint8)
    clear[:60, :, 3] = 255
    found = sample_frames(save(clear, tmp_path / "a.png"), **NATIVE).frames[0]
    assert found[30].max() == 0 and found[90].min() == 255  # what is transparent shows white
    palette = Image.fromarray(numbered(9, 160, 120)).quantize(8)
    assert read_number(sample_frames(save(palette, tmp_path / "p.png"), **NATIVE).frames[0]) == 9
    print_colours = Image.fromarray(numbered(9, 160, 120)).convert("CMYK")
    found = sample_frames(save(print_colours, tmp_path / "c.jpg"), **NATIVE).frames[0]
    assert difference(found, numbered(9, 160, 120)) < 6
    deep = np.full((120, 160), 40_000, np.uint16)
    found = sample_frames(save(Image.fromarray(deep), tmp_path / "d.png"), **NATIVE).frames[0]
    assert found.mean() == pytest.approx(40_000 / 257, abs=1)


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_animated_pictures_are_videos(kind, tmp_path):
    images = [Image.fromarray(numbered(number, 160, 120)) for number in range(6)]
    path = tmp_path / f"a.{kind}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=200)
    found = sample_frames(path, 3, **NATIVE)
    assert [read_number(shown) for shown in found.frames] == found.indices == [0, 2, 5]
    assert found.timestamps == [0.0, 0.4, 1.0]
    assert (found.fps, found.duration, found.total_frames) == (5.0, 1.2, 6)
    assert is_animated(path)
    assert not is_animated(save(images[0], tmp_path / f"still.{kind}"))
    assert not is_animated(tmp_path / "absent.webp")


# ---- reasons


def test_an_unreadable_file_has_a_reason_of_one_line(tmp_path, monkeypatch):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("This is no video.\n" * 10)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n")
    (tmp_path / "script.mp4").write_text("ffconcat version 1.0\nfile /etc/hostname\n")
    os.mkfifo(tmp_path / "pipe.mp4")
    clip = write_clip(tmp_path / "clip.mp4")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes().partition(b"moov")[0])
    save(numbered(1, 160, 120), tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:1200])
    save(numbered(1, 4096, 16), tmp_path / "long.png")
    write_sound(tmp_path / "sound.mp4")
    reasons = {
        "absent.mp4": "no such file",
        "http://localhost:9/a.mp4": "no such file",
        "concat:clip.mp4": "no such file",
        "a\0b.mp4": "embedded null byte",
        ".": "it is a folder without numbered pictures",
        "pipe.mp4": "it is not a regular file",
        "empty.mp4": "the file is empty",
        "text.mp4": "cannot be opened as a video: ",
        "list.mp4": "cannot be opened as a video: ",
        "script.mp4": "neither a video nor a picture",
        "cut.mp4": "moov atom not found",
        "cut.jpg": "the picture is damaged: ",
        "long.png": "a frame of 4096x16 is longer than 200:1",
        "sound.mp4": "holds no video, only audio",
    }
    monkeypatch.chdir(tmp_path)
    for name, reason in reasons.items():
        with pytest.raises(VideoError) as caught:
            sample_frames(name)
        assert reason in caught.value.reason, name
        assert str(caught.value) == f"cannot read {name}: {caught.value.reason}"
        assert "\n" not in str(caught.value) and caught.value.path == name
    with pytest.raises(VideoError, match="has 40 frames, at least 41 are needed"):
        sample_frames(clip, min_frames=41)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    path.chmod(0)
    with pytest.raises(VideoError, match="permission denied"):
        sample_frames(path)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_media_are_checked_into_a_manifest(tmp_path):
    paths = [write_clip(tmp_path / "a.mp4"), tmp_path / "absent.mp4", tmp_path / "empty.mp4"]
    paths[2].touch()
    rows = check_media(paths, tmp_path / "out" / "manifest.jsonl")
    assert [row["status"] for row in rows] == ["have", "missing", "unreadable"]
    assert [row["reason"] for row in rows] == ["", "no such file", "the file is empty"]
    assert (rows[0]["total_frames"], rows[0]["decoder"]) == (40, "decord")
    written = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == rows


# ---- what is passed on


def test_frames_record_how_they_were_made(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 12)
    found = sample_frames(path, 4, 3136, factor=14)
    info = json.loads(json.dumps(found.info()))
    assert info == {
        "timestamps": found.timestamps,
        "indices": [0, 4, 7, 11],
        "fps": 10.0,
        "duration": 1.2,
        "total_frames": 12,
        "decoder": "decord",
        "path": str(path),
        "note": "",
        "max_frames": 4,
        "max_pixels": 3136,
        "factor": 14,
        "height": 42,
        "width": 56,
    }
    assert len(found) == 4 and found.shape == (4, 42, 56, 3) == np.asarray(found).shape
    assert found.frames.dtype == np.uint8 and found.frames.flags.writeable


# ---- cache


def test_a_cache_decodes_each_file_once_per_settings(tmp_path):
    path, cache = write_clip(tmp_path / "a.mp4"), FrameCache()
    first = cache.get(path, max_frames=4)
    assert cache.get(str(path), max_frames=4, timeout=5.0).frames is first.frames
    assert (cache.decoded, cache.hits) == (1, 1)
    assert len(cache.get(path)) == len(cache.get(path, max_frames=16)) == 16
    assert (cache.decoded, cache.hits) == (2, 2)
    write_clip(path, 3)
    assert cache.get(path, max_frames=4).total_frames == 3  # the file has changed


def test_many_threads_decode_a_file_once(tmp_path):
    paths = [write_clip(tmp_path / f"{number}.mp4", 4 + number) for number in range(4)]
    cache = FrameCache()
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(cache.get, paths * 8))
    assert [frames.total_frames for frames in found] == [4, 5, 6, 7] * 8
    assert (cache.decoded, cache.hits) == (4, 28)


def test_failures_are_cached_with_file_and_reason(tmp_path):
    cache = FrameCache()
    for _ in range(3):
        with pytest.raises(VideoError, match=r"absent\.mp4: no such file"):
            cache.get(tmp_path / "absent.mp4")
    assert cache.decoded == 1
    write_clip(tmp_path / "absent.mp4", 4)
    assert len(cache.get(tmp_path / "absent.mp4")) == 4


def test_a_decoder_that_hung_is_tried_again(tmp_path, monkeypatch):
    path, cache = write_clip(tmp_path / "a.mp4", 4), FrameCache(tmp_path / "cache")

    def hang(request, timeout):
        raise DecodeFailure("no answer in 1 s", lost="decord")

    with monkeypatch.context() as patched:
        patched.setattr("p2r.video.frames.decode", hang)
        with pytest.raises(VideoError, match="no answer in 1 s") as raised:
            cache.get(path)
    assert raised.value.lost
    assert len(cache.get(path)) == 4 and cache.decoded == 2
    cache.get(path)
    assert (cache.hits, len(cache._busy)) == (1, 0)


def test_the_memory_of_a_cache_is_limited(tmp_path):
    paths = [write_clip(tmp_path / f"{number}.mp4", 4) for number in range(3)]
    size = sample_frames(paths[0]).frames.nbytes
    for cache in (FrameCache(max_items=2), FrameCache(max_bytes=2 * size)):
        for path in (paths[0], paths[1], paths[0], paths[2], paths[0], paths[1]):
            cache.get(path)
        assert (cache.decoded, cache.hits) == (4, 2)  # the least recently used went first


def test_a_folder_keeps_frames_for_other_runs(tmp_path):
    path, folder = write_clip(tmp_path / "a.mp4"), tmp_path / "cache"
    first = FrameCache(folder).get(path, max_frames=4)
    again = FrameCache(folder)
    found = again.get(path, max_frames=4)
    assert (again.decoded, again.hits) == (0, 1)
    assert np.array_equal(found.frames, first.frames) and found.info() == first.info()
    (kept,) = folder.glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:1000])  # as if the disk had been full
    mended = FrameCache(folder)
    assert np.array_equal(mended.get(path, max_frames=4).frames, first.frames)
    assert mended.decoded == 1 and [*folder.glob("*.npz")] == [kept]


def test_os_processes_that_share_a_folder_decode_each_file_once(tmp_path):
    paths = [str(write_clip(tmp_path / f"{number}.mp4", 4)) for number in range(3)]
    code = (
        "import sys; from p2r.video import FrameCache; cache = FrameCache(sys.argv[1]); "
        "[cache.get(path) for path in sys.argv[2:]]; print(cache.decoded)"
    )
    ask = [sys.executable, "-c", code, str(tmp_path / "cache"), *paths]
    running = [subprocess.Popen(ask, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(child.communicate()[0]) for child in running) == 3


def test_the_disk_of_a_cache_is_limited(tmp_path):
    paths = [write_clip(tmp_path / f"{number}.mp4", 4) for number in range(4)]
    size = sample_frames(paths[0]).frames.nbytes + 2000
    mine = tmp_path / "cache" / "features of mine.npz"
    mine.parent.mkdir()
    mine.write_bytes(b"not of the cache")
    os.utime(mine, (0, 0))
    cache = FrameCache(tmp_path / "cache", max_items=1, disk_bytes=int(3.5 * size))
    for place in (0, 1, 2, 0, 3):  # the second clip is the least recently used
        cache.get(paths[place])
    assert (cache.decoded, cache.hits) == (4, 1)
    for place in (0, 2, 3, 1):
        cache.get(paths[place])
    assert (cache.decoded, cache.hits) == (5, 4)
    assert mine.is_file(), "only files of the cache are deleted"
