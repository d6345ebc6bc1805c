"""Read sampled frames of a video with decord, or with PyAV for files where decord is not exact.

Decord finds a frame by counting from a keyframe. This silently gives wrong frames for open GOPs
(frames that are shown before their keyframe), for MPEG-TS and for AVI with B-frames. So the packets
are indexed first, without decoding. The index tells whether decord is exact, and has the true
timestamps. Both decoders convert and resize in one step with swscale's antialiased bilinear filter,
so that their pixels agree. Only PyAV reads HDR video, whose colours need a conversion.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from p2r.video.colour import HDR
from p2r.video.sampling import Unreadable, Wanted, choose_frames
from p2r.video.upright import orientation, to_pixels, upright_size

# No playlists or scripts (HLS, DASH, concat, SDP): they open other files and addresses.
CONTAINERS = (
    "aac,ac3,aiff,amr,apng,asf,av1,avi,caf,dv,flac,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mjpeg,"
    "mov,mp3,mp4,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,swf,vc1,vvc,wav,webm,wtv,yuv4mpegpipe"
)
MOV = "mov,mp4,m4a,3gp,3g2,mj2"
DECORD_CONTAINERS = {MOV, "matroska,webm"}
DECORD_CODECS = {"h264", "hevc", "mpeg4", "vp9"}
MAX_AREA = 8192 * 8192  # a damaged header can claim more than the memory can hold
ANY_FAULT = 1e-9  # decord fails if it replaces a larger share of frames by their neighbours

FAULTS = (av.FFmpegError, OSError)

Answer = tuple[dict[str, Any], np.ndarray]


@dataclass
class Index:
    """The times of a stream's frames (in units of `base` seconds), read from its packets."""

    base: Fraction
    rate: float  # frames per second in the header, 0 if unknown
    times: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    last_duration: int = 0
    exact: bool = True  # each packet is one whole frame with its own time
    closed: bool = True  # no frame is shown before its keyframe
    hidden: int = 0  # packets that an edit list hides
    fault: str = ""  # why a part of the file cannot be read
    damaged: int = 0  # how many of the sampled frames the decoder had to repair
    aspect: float = 1.0  # the width of a pixel divided by its height
    transfer: int = 0  # the transfer function of the colours, if it is a key of `HDR`

    def seconds(self) -> list[float]:
        """Return the times of all frames in seconds."""
        return [float(time * self.base) for time in self.times]


def read_video(
    path: str,
    wanted: Wanted,
    use_decord: bool = True,
    enter: Callable[[str], None] = lambda stage: None,
) -> Answer:
    """Return fields of `p2r.video.Frames` and pixels. Calls `enter` with the decoder in use."""
    with open_video(path) as container:
        stream = find_stream(container)
        enter("PyAV")
        index = read_index(container, stream)
        found = None
        if index.exact:
            chosen, note = choose_frames(index.seconds(), wanted)
            if use_decord and decord_is_exact(container, stream, index):
                size = _decord_size(container, stream, index, wanted)
                if size is not None:
                    enter("decord")
                    pixels = _read_with_decord(path, chosen, size, len(index.times))
                    enter("PyAV")
                    if pixels is not None:
                        return _describe(index, chosen, "decord") | {"note": note}, pixels
            found = _read_by_time(container, stream, index, chosen, wanted)
        promised = max(stream.frames - index.hidden, len(index.times))
        length = _promised_length(container, stream)
    if found is None:
        index, chosen, note, frames = _read_in_order(path, wanted)
    else:
        frames = found
    fault = index.fault and f": {index.fault}"
    if not frames:
        raise Unreadable(f"no frame can be decoded{fault}")
    notes = [note] if note else []
    if fault or len(index.times) < promised:
        notes.append(f"{len(index.times)} of {promised} frames readable{fault}")
    about = _describe(index, chosen, "pyav")
    if not notes and about["duration"] < min(0.9 * length, length - 1):
        notes.append(f"{about['duration']:.3g} of {length:.3g} seconds readable")
    if index.damaged:
        notes.append(f"damaged: {index.damaged} of the {len(frames)} sampled frames")
    if index.transfer:
        notes.append(f"HDR ({HDR[index.transfer]}) converted to SDR")
    return about | {"note": "; ".join(notes)}, np.stack(frames)


def _promised_length(container: InputContainer, stream: VideoStream) -> float:
    """Return the seconds of video that the header of a Matroska file promises, 0 if unknown."""
    if "matroska" not in container.format.name:
        return 0.0
    told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if told:
        return 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3])
    alone = len(container.streams) == 1
    return (container.duration or 0) / av.time_base if alone else 0.0


def open_video(path: str) -> InputContainer:
    """Open a local media file. Raises `Unreadable` with a reason of one line."""
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        return av.open(path, options=options, metadata_errors="replace")
    except FAULTS as error:
        reason = error.strerror or str(error)
    # Logging takes locks that may block decoding threads, so it is only used after a failure.
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as said, contextlib.suppress(*FAULTS):
        av.open(path, options=options, metadata_errors="replace").close()
    av.logging.set_level(None)
    detail = said[-1][2].strip() if said else ""
    if "whitelist" in detail:
        reason, detail = "neither a video nor a picture", ""
    raise Unreadable(f"cannot be opened as a video: {', '.join(filter(None, (reason, detail)))}")


def find_stream(container: InputContainer) -> VideoStream:
    """Return the video stream that a player would show. A song's cover picture does not count."""
    covers = [s for s in container.streams.video if s.disposition & s.disposition.attached_pic]
    streams = [s for s in container.streams.video if s not in covers]
    if not streams:
        kinds = sorted({s.type for s in container.streams if s not in covers})
        raise Unreadable("holds no video" + (f", only {' and '.join(kinds)}" if kinds else ""))
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    codec = stream.codec_context
    if codec is None:
        raise Unreadable("the video's codec is unknown")
    if codec.width * codec.height > MAX_AREA:
        raise Unreadable(f"the frames of {codec.width}x{codec.height} are too large")
    codec.thread_count = 1  # threads slow small clips down
    return stream


def read_index(container: InputContainer, stream: VideoStream) -> Index:
    """Read all packets of the stream without decoding them."""
    index = _start_index(stream)
    packets = container.demux(stream)
    key = latest = None
    while True:
        try:
            packet = next(packets, None)
        except FAULTS as error:
            index.fault, index.exact = error.strerror or str(error), False
            break
        if packet is None or not packet.size:  # the last packet is empty: it flushes the decoder
            break
        if packet.is_discard:
            index.hidden += 1
            index.closed = False
            continue
        if packet.pts is None or packet.is_corrupt:
            index.exact = False
        time = packet.pts if packet.pts is not None else packet.dts or 0
        if packet.is_keyframe:
            key = time
            index.keys.append(time)
        index.closed &= key is not None and time >= key
        if latest is None or time > latest:
            latest, index.last_duration = time, packet.duration or 0
        index.times.append(time)
    index.times.sort()
    index.keys.sort()
    distinct = len(set(index.times)) == len(index.times)
    index.exact &= distinct and index.keys[:1] == index.times[:1] != []
    return index


def _start_index(stream: VideoStream) -> Index:
    index = Index(Fraction(stream.time_base), float(stream.average_rate or 0))
    ratio = float(stream.sample_aspect_ratio or 0)
    if 0.1 <= ratio <= 10:  # else the header is wrong
        index.aspect = ratio
    transfer = int(stream.codec_context.color_trc)
    index.transfer = transfer if transfer in HDR else 0
    return index


def decord_is_exact(container: InputContainer, stream: VideoStream, index: Index) -> bool:
    """Return whether decord finds the right frames of this file (see the module docstring)."""
    return (
        index.exact
        and index.closed
        and not index.transfer
        and index.times[0] >= 0
        and stream.frames in (0, len(index.times))
        and container.format.name in DECORD_CONTAINERS
        and stream.codec_context.codec.canonical_name in DECORD_CODECS
        and len(container.streams.video) == 1
    )


def _read_with_decord(
    path: str, chosen: list[int], size: tuple[int, int], total: int
) -> np.ndarray | None:
    """Return frames (T, H, W, 3), or None if decord is not installed or fails.

    Decord replaces a frame that it cannot decode by its neighbour, and only logs the fault.
    """
    said = _logged()
    try:
        import decord

        decord.logging.set_level(decord.logging.ERROR)
        reader = decord.VideoReader(
            path,
            ctx=decord.cpu(0),
            height=size[0],
            width=size[1],
            num_threads=1,
            fault_tol=ANY_FAULT,
        )
        if len(reader) != total:
            return None
        frames = reader.get_batch(chosen).asnumpy()
    except Exception:  # decord raises many types; PyAV will find the reason
        return None
    whole = frames.shape == (len(chosen), *size, 3) and _logged() == said
    return frames if whole else None


def _logged() -> int:
    """Return the size of the log: the standard error of a worker is a file."""
    log = os.fstat(2)
    return log.st_size if stat.S_ISREG(log.st_mode) else 0


def _read_by_time(
    container: InputContainer,
    stream: VideoStream,
    index: Index,
    chosen: list[int],
    wanted: Wanted,
) -> list[np.ndarray] | None:
    """Decode from the last keyframe before each frame. Returns None if the index is wrong."""
    frames: list[np.ndarray] = []
    coming: Iterator[VideoFrame] = iter(())
    size, upcoming = None, -1
    try:
        for position in chosen:
            key_time = index.keys[bisect_right(index.keys, index.times[position]) - 1]
            key = bisect_left(index.times, key_time)
            if upcoming < key:
                container.seek(key_time, stream=stream)
                coming, upcoming = _from(key_time, container.decode(stream)), key
            for frame in coming:
                if frame.pts != index.times[upcoming]:
                    return None
                upcoming += 1
                if upcoming > position:
                    size = size or upright_size(frame, index.aspect, wanted)
                    frames.append(to_pixels(frame, size, index.transfer))
                    index.damaged += frame.is_corrupt
                    break
    except (*FAULTS, TypeError):  # a damaged packet, or a frame without a time
        return None
    return frames if len(frames) == len(chosen) else None


def _from(time: int, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    return itertools.dropwhile(lambda frame: frame.pts < time, frames)


def _read_in_order(path: str, wanted: Wanted) -> tuple[Index, list[int], str, list[np.ndarray]]:
    """Decode all frames twice: first to count the readable ones, then to keep the chosen ones.

    Returns the index, the chosen frames, a note and the pixels.
    """
    told: list[int | None] = []
    with open_video(path) as container:
        stream = find_stream(container)
        index = _start_index(stream)
        for frame in _decode_readable(container, stream, index):
            told.append(frame.pts)
            index.last_duration = frame.duration or 0
        tick = max(1, round(1 / (Fraction(stream.guessed_rate or 25) * index.base)))
    for time in told:  # a missing or decreasing time is replaced by the frame rate's
        before = index.times[-1] if index.times else None
        if time is None or (before is not None and time <= before):
            time = 0 if before is None else before + tick
        index.times.append(time)
    index.last_duration = index.last_duration or tick
    chosen, note = choose_frames(index.seconds(), wanted, damaged=bool(index.fault))
    if not chosen:
        return index, [], "", []
    frames: list[np.ndarray] = []
    size = None
    with open_video(path) as container:
        decoded = _decode_readable(container, find_stream(container), index)
        for position, frame in enumerate(itertools.islice(decoded, chosen[-1] + 1)):
            size = size or upright_size(frame, index.aspect, wanted)
            if position in chosen:
                frames.append(to_pixels(frame, size, index.transfer))
                index.damaged += frame.is_corrupt
    return index, chosen, note, frames


def _decode_readable(
    container: InputContainer, stream: VideoStream, index: Index
) -> Iterator[VideoFrame]:
    """Yield all frames that can be decoded, and skip damaged packets.

    `index.fault` becomes the first fault. Reading ends if the container itself is damaged.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = [] if packet is None else packet.decode()
        except FAULTS as error:
            index.fault = index.fault or error.strerror or str(error)
            continue  # if the container is damaged, `packets` has ended
        if packet is None:
            return
        yield from frames


def _decord_size(
    container: InputContainer, stream: VideoStream, index: Index, wanted: Wanted
) -> tuple[int, int] | None:
    """Return the size for decord, or None if decord would not turn the frames upright.

    Decord follows the rotation of MOV and MP4 and never mirrors. Only a decoded frame has the
    rotation.
    """
    try:
        container.seek(index.times[0], stream=stream)
        frame = next(container.decode(stream))
    except (*FAULTS, StopIteration):
        return None
    turned = orientation(frame)
    mirrored = sum(turned) % 2
    if any(turned) and (mirrored or container.format.name != MOV):
        return None
    return upright_size(frame, index.aspect, wanted)


def _describe(index: Index, chosen: list[int], decoder: str) -> dict[str, Any]:
    """Return fields of `Frames`, with the header's frame rate only if the times agree with it."""
    total, base = len(index.times), index.base
    span = float((index.times[-1] - index.times[0]) * base)
    last = float(index.last_duration * base)
    if last <= 0:
        last = span / (total - 1) if total > 1 else 1 / (index.rate or 1)
    counted = total / (span + last)
    return {
        "timestamps": [round(float(index.times[i] * base), 6) for i in chosen],
        "indices": chosen,
        "fps": round(index.rate if abs(index.rate - counted) < 0.01 * counted else counted, 6),
        "duration": round(span + last, 6),
        "total_frames": total,
        "decoder": decoder,
    }
