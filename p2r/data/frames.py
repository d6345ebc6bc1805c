"""Reads the frames of a question, with the settings of a recipe for training or for inference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import DataError
from p2r.files.media import resolve_media
from p2r.records import Medium, Question
from p2r.video import FrameCache, clips_of
from p2r.video.changes import change_frames, check_change
from p2r.video.frames import sample_adaptively

if TYPE_CHECKING:
    from p2r.runs.recipe import VideoSettings
    from p2r.video import Clips, Frames


def read_frames(
    question: Question,
    *,
    root: str | Path,
    cache: FrameCache,
    image_pixels: int | None = None,
    sampling: str = "uniform",
    change: str = "",
    **settings: Any,
) -> Clips:
    """Return the frames of a question, None for a text-only one.

    A question with several media has a tuple with the frames of each. If the question is about a
    part of a video, only this part is sampled. `settings` are arguments of `sample_frames` and hold
    for each medium. `image_pixels`: the most pixels of an image (default: as in a frame of a
    video). `sampling` "adaptive" chooses the frames of a video by how much changes. `change`: see
    `p2r.video.changes`. Raises `p2r.video.VideoError`, `p2r.files.media.MediaError`.
    """

    def read(medium: Medium) -> Frames:
        image = image_pixels and medium.data_type == "image"
        chosen = settings | ({"max_pixels": image_pixels} if image else {}) | medium.window
        path = resolve_media(root, medium.path)
        return read_file(path, cache=cache, sampling=sampling, change=change, **chosen)

    found = tuple(map(read, question.media))
    return found if len(found) > 1 else next(iter(found), None)


def read_file(
    path: str | Path,
    *,
    cache: FrameCache,
    sampling: str = "uniform",
    change: str = "",
    **settings: Any,
) -> Frames:
    """Return the frames of one file; the arguments are the same as of `read_frames`."""
    sample = sample_adaptively if sampling == "adaptive" else FrameCache.get
    return change_frames(sample(cache, path, **settings), change)


def train_settings(video: VideoSettings) -> dict[str, Any]:
    """Return the settings of `read_frames` for training."""
    image = {"image_pixels": video.image_pixels} if video.image_pixels else {}
    adaptive = {"sampling": "adaptive"} if video.sampling == "adaptive" else {}
    return {
        **image,
        **adaptive,
        "max_frames": video.train_frames,
        "max_pixels": video.train_pixels,
        "factor": video.factor,
        "timeout": video.timeout,
    }


def eval_settings(video: VideoSettings) -> dict[str, Any]:
    """Return the settings of `read_frames` for inference."""
    change = {"change": check_change(video.eval_change)} if video.eval_change else {}
    return train_settings(video) | {
        "max_frames": video.eval_frames,
        "max_pixels": video.eval_pixels,
        **change,
    }


def pair_media(question: Question, frames: Clips) -> list[tuple[Medium, Frames]]:
    """Return each medium of a question with its frames; raises `DataError` if the numbers differ.

    Frames of a question without a path, for example drawn ones, have an unnamed medium.
    """
    clips = clips_of(frames)
    media = question.media or [Medium(path="", data_type=question.data_type)]
    if clips and len(clips) != len(media):
        raise DataError(
            f"question {question.id!r} has {len(media)} media files, but frames of {len(clips)} "
            "are given: give the frames of every media file"
        )
    return list(zip(media, clips, strict=False))
