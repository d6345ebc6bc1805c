"""What runs in a decoding process: files in, sampled frames out. Nothing else imports this module.

Pictures are read by Pillow, videos by decord where it is known to be exact, else by PyAV. Decord finds frames by
counting from a keyframe; where a keyframe's pictures are shown before it (open GOPs), in MPEG-TS and in AVI with
B-frames it returns wrong frames without a word, so an index of the packets decides (`_decord_is_exact`). The
index also gives the true timestamps. Both decoders convert and resize in one step by swscale's antialiased
bilinear filter, and their pixels agree.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import signal
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

import av
import numpy as np
from PIL import Image, ImageOps

from p2r.video import fit_size, uniform_indices

PICTURES = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
PICTURE_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG|BM|RIFF....WEBP|II\*\0|MM\0\*|P[1-6]\s|....ftypavi[fs]", re.DOTALL
)
# Containers only: playlists and scripts (HLS, DASH, concat, SDP) name further files or addresses to open.
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,gif,h263,h264,hevc,vvc,ivf,obu,av1,mjpeg,"
    "mxf,nut,rm,dv,yuv4mpegpipe,apng,swf,wtv,vc1,mp3,wav,flac,aac,ac3,amr,aiff,caf"
)
DECORD_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
DECORD_CODECS = {"h264", "hevc", "mpeg4", "vp9"}
MAX_SIDE_PRODUCT = 8192 * 8192


class Unreadable(Exception):
    """Why a file cannot be read, in one line."""


@dataclass
class Index:
    """The packets of a video stream, read without decoding: presentation times in units of the time base."""

    times: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    last_duration: int = 0
    exact: bool = True  # each packet is one frame with a time of its own
    closed: bool = True  # no frame is shown before the keyframe that precedes it in the file
    hidden: int = 0
    fault: str = ""


def main(descriptor: int) -> None:
    """Answer requests until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    connection = Connection(descriptor)
    _send(connection, {"stage": "ready"})
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        # Should the parent be killed while a decoder hangs here, nobody else would end this process.
        signal.setitimer(signal.ITIMER_REAL, request.pop("timeout") + 10)
        try:
            meta, frames = read(connection, **request)
            pixels = np.ascontiguousarray(frames)
            _send(connection, meta | {"shape": pixels.shape})
            connection.send_bytes(memoryview(pixels).cast("B"))
        except Unreadable as error:
            _send(connection, {"reason": str(error)})
        except Exception as error:  # any fault of a decoder is the file's, and the worker goes on
            _send(connection, {"reason": f"{type(error).__name__}: {error}"})
        signal.setitimer(signal.ITIMER_REAL, 0)


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def read(
    connection: Connection,
    path: str,
    max_frames: int,
    max_pixels: int,
    factor: int,
    decord: bool = True,
) -> tuple[dict[str, Any], np.ndarray]:
    """What `p2r.video.Frames` needs to know, and the pixels. Announces decord, which may not return."""
    limits = (max_pixels, factor)
    picture = read_picture(path, max_frames, limits)
    if picture is not None:
        return picture
    with open_video(path) as container:
        index = read_index(container, video_stream(container))
        stream = video_stream(container)
        if decord and _decord_is_exact(container, stream, index):
            size = _first_frame_size(path, limits)
            _send(connection, {"stage": "decord"})
            chosen = uniform_indices(len(index.times), max_frames)
            frames = _read_with_decord(path, chosen, size, len(index.times))
            _send(connection, {"stage": "PyAV"})
            if frames is not None:
                return _describe(index, chosen, stream, "decord", ""), frames
        _send(connection, {"stage": "PyAV"})
        return read_with_pyav(path, container, index, max_frames, limits)


def read_picture(
    path: str, max_frames: int, limits: tuple[int, int]
) -> tuple[dict[str, Any], np.ndarray] | None:
    """A picture as one frame, an animated WebP or PNG as a video; None for what is not a picture."""
    with open(path, "rb") as file:
        if not PICTURE_MAGIC.match(file.read(16)):
            return None
    try:
        image = Image.open(path, formats=PICTURES)
    except Image.UnidentifiedImageError:
        raise Unreadable("the picture is damaged: its header cannot be read") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable(f"the picture is too large: {error}") from None
    with image:
        animated = image.format in ("WEBP", "PNG") and getattr(image, "n_frames", 1) > 1
        total = image.n_frames if animated else 1
        chosen = uniform_indices(total, max_frames)
        frames, times, now = [], [], 0.0
        try:
            for position in range(total):
                image.seek(position)
                image.load()
                if position in chosen:
                    frames.append(_fit_picture(image, limits))
                    times.append(round(now, 6))
                now += image.info.get("duration", 0) / 1000 if animated else 0
        except (OSError, SyntaxError, ValueError) as error:
            raise Unreadable(f"the picture is damaged: {error}") from None
        fps = round(total / now, 6) if now > 0 else 1.0
    meta = {"timestamps": times, "indices": chosen, "fps": fps, "duration": round(now, 6)}
    return meta | {"total_frames": total, "decoder": "image", "note": ""}, np.stack(frames)


def _fit_picture(image: Image.Image, limits: tuple[int, int]) -> np.ndarray:
    """Upright RGB of the fitting size; what is transparent is shown on white, as Qwen's reader does."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would cut, not scale, 16 bits to 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(
            Image.new("RGBA", image.size, (255, 255, 255, 255)), image.convert("RGBA")
        )
    height, width = _fit(image.height, image.width, limits)
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


def _fit(height: int, width: int, limits: tuple[int, int]) -> tuple[int, int]:
    try:
        return fit_size(height, width, *limits)
    except ValueError as error:
        raise Unreadable(str(error)) from None


def open_video(path: str) -> Any:
    """Open a local media file, or say in one line why it is none."""
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        return av.open(path, options=options)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
    # Only now, to know more: logging takes locks that decoding threads could wait for.
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as said:
        with contextlib.suppress(av.FFmpegError, OSError):
            av.open(path, options=options).close()
    av.logging.set_level(None)
    detail = said[-1][2].strip() if said else ""
    raise Unreadable(f"not a video or picture that can be opened: {reason} {detail}".strip())


def video_stream(container: Any) -> Any:
    """The video stream; a cover picture of a song is none."""
    covers = [s for s in container.streams.video if s.disposition & s.disposition.attached_pic]
    streams = [s for s in container.streams.video if s not in covers]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams if stream not in covers})
        raise Unreadable(f"it has no video, only {' and '.join(kinds) or 'nothing'}")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise Unreadable("its video codec is unknown")
    if stream.codec_context.width * stream.codec_context.height > MAX_SIDE_PRODUCT:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        raise Unreadable(f"its pictures of {size} are larger than 8192x8192")
    stream.codec_context.thread_count = 1  # a thread per core costs small clips more than it gives
    return stream


def read_index(container: Any, stream: Any) -> Index:
    """Read all packets of the stream."""
    index = Index()
    key = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            index.fault, index.exact = error.strerror or str(error), False
            break
        if packet is None:
            break
        if not packet.size:  # the last one, which only flushes the decoder
            continue
        if packet.is_discard:  # cut off by an edit list
            index.hidden += 1
            index.closed = False
            continue
        if packet.pts is None or packet.is_corrupt:
            index.exact = False
        time = packet.pts if packet.pts is not None else (packet.dts or 0)
        if packet.is_keyframe:
            key = time
            index.keys.append(time)
        elif key is None or time < key:
            index.closed = False
        if not index.times or time >= max(index.times[-1:]):
            index.last_duration = packet.duration or 0
        index.times.append(time)
    index.times.sort()
    index.keys.sort()
    distinct = len(set(index.times)) == len(index.times)
    index.exact = index.exact and distinct and bool(index.keys)
    return index


def _decord_is_exact(container: Any, stream: Any, index: Index) -> bool:
    """Whether decord's counting of frames from keyframes finds the right ones (see the module's head)."""
    return (
        index.exact
        and index.closed
        and index.times[0] == index.keys[0] >= 0
        and stream.frames in (0, len(index.times))
        and container.format.name in DECORD_CONTAINERS
        and stream.codec_context.codec.canonical_name in DECORD_CODECS
        and len(container.streams.video) == 1
    )


def _first_frame_size(path: str, limits: tuple[int, int]) -> tuple[int, int] | None:
    """The (height, width) to decode to, upright: rotation is known from a decoded frame alone."""
    with open_video(path) as container:
        try:
            return _target(next(container.decode(video_stream(container))), limits)
        except (av.FFmpegError, StopIteration):
            return None


def _target(frame: Any, limits: tuple[int, int]) -> tuple[int, int]:
    size = (frame.height, frame.width)
    return _fit(*(size[::-1] if _quarter_turns(frame) % 2 else size), limits)


def _quarter_turns(frame: Any) -> int:
    """Quarter turns to the left that set the frame upright, from its display matrix."""
    return round(frame.rotation / 90) % 4


def _read_with_decord(
    path: str, chosen: list[int], size: tuple[int, int] | None, total: int
) -> np.ndarray | None:
    """The frames through decord, or None where it cannot read them or is not installed."""
    if size is None:
        return None
    try:
        import decord

        reader = decord.VideoReader(
            path, ctx=decord.cpu(0), height=size[0], width=size[1], num_threads=1, fault_tol=1e-9
        )
        if len(reader) != total:
            return None
        frames = reader.get_batch(chosen).asnumpy()
    except Exception:  # decord raises many types; PyAV then says what is wrong
        return None
    return frames if frames.shape == (len(chosen), *size, 3) else None


def read_with_pyav(
    path: str, container: Any, index: Index, max_frames: int, limits: tuple[int, int]
) -> tuple[dict[str, Any], np.ndarray]:
    """The frames through PyAV: by their times where the index is exact, else by decoding all."""
    stream = video_stream(container)
    promised = max(stream.frames - index.hidden, len(index.times))
    if index.exact:
        chosen = uniform_indices(len(index.times), max_frames)
        frames = _frames_by_time(container, index, chosen, limits)
        if frames is not None:
            note = _lost(len(index.times), promised, index.fault)
            return _describe(index, chosen, stream, "pyav", note), np.stack(frames)
    times, fault = _decode_all(path)
    if not times:
        raise Unreadable(f"no frame can be decoded{': ' + fault if fault else ''}")
    chosen = uniform_indices(len(times), max_frames)
    with open_video(path) as again:
        decoded = again.decode(video_stream(again))
        frames, size = [], None
        for position, frame in enumerate(itertools.islice(decoded, chosen[-1] + 1)):
            size = size or _target(frame, limits)
            if position in chosen:
                frames.append(_pixels(frame, size))
    note = _lost(len(times), promised, fault or index.fault)
    told = all(time is not None for time in times)
    if not told or any(a >= b for a, b in itertools.pairwise(times)):
        rate = stream.average_rate or stream.guessed_rate or 25
        tick = 1 / (Fraction(rate) * stream.time_base)
        times = [int(position * tick) for position in range(len(times))]
        note = "; ".join(filter(None, (note, "times are counted from the frame rate")))
    readable = Index(times, last_duration=index.last_duration)
    return _describe(readable, chosen, stream, "pyav", note), np.stack(frames)


def _lost(readable: int, promised: int, fault: str) -> str:
    if not fault and readable >= promised:
        return ""
    return f"{readable} of {promised} frames readable{': ' + fault if fault else ''}"


def _frames_by_time(
    container: Any, index: Index, chosen: list[int], limits: tuple[int, int]
) -> list[np.ndarray] | None:
    """Decode from the nearest keyframe before each chosen frame; None unless every frame comes as indexed."""
    stream = video_stream(container)
    frames: list[np.ndarray] = []
    decoded: Iterator[Any] = iter(())
    size = None
    expected = -1  # position in the index of the frame that comes next; -1: must seek
    try:
        for position in chosen:
            wanted = index.times[position]
            key_time = index.keys[max(0, bisect_right(index.keys, wanted) - 1)]
            key = bisect_right(index.times, key_time) - 1
            if expected < 0 or key > expected:
                container.seek(key_time, stream=stream, backward=True)
                decoded = container.decode(stream)
                expected = key
                decoded = itertools.dropwhile(lambda frame, t=key_time: frame.pts < t, decoded)
            for frame in decoded:
                if frame.pts != index.times[expected]:
                    return None
                expected += 1
                if frame.pts == wanted:
                    size = size or _target(frame, limits)
                    frames.append(_pixels(frame, size))
                    break
            else:
                return None
    except (av.FFmpegError, TypeError):  # a damaged packet; a frame without a time
        return None
    return frames


def _decode_all(path: str) -> tuple[list[int | None], str]:
    """The times of all frames until the first that cannot be decoded, and what is wrong there."""
    times: list[int | None] = []
    with open_video(path) as container:
        try:
            for frame in container.decode(video_stream(container)):
                times.append(frame.pts)
        except av.FFmpegError as error:
            return times, error.strerror or str(error)
    return times, ""


def _pixels(frame: Any, size: tuple[int, int]) -> np.ndarray:
    """RGB (H, W, 3) of the wanted upright size."""
    turns = _quarter_turns(frame)
    height, width = size[::-1] if turns % 2 else size
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BILINEAR")
    return np.rot90(pixels, turns) if turns else pixels


def _describe(
    index: Index, chosen: list[int], stream: Any, decoder: str, note: str
) -> dict[str, Any]:
    """The header of an answer. The stream's rate is kept where it fits the times, else they are counted."""
    base = stream.time_base
    total = len(index.times)
    span = float((index.times[-1] - index.times[0]) * base)
    last = float(index.last_duration * base)
    stated = float(stream.average_rate or 0)
    if last <= 0:
        last = span / (total - 1) if total > 1 else (1 / stated if stated else 1.0)
    counted = total / (span + last)
    return {
        "timestamps": [round(float(index.times[i] * base), 6) for i in chosen],
        "indices": chosen,
        "fps": round(stated if abs(stated - counted) <= 0.01 * counted else counted, 6),
        "duration": round(span + last, 6),
        "total_frames": total,
        "decoder": decoder,
        "note": note,
    }
