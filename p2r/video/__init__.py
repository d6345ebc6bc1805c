"""Open videos and pictures, sample and resize their frames, and cache them."""

from p2r.errors import VideoError
from p2r.video.folder import find_clips
from p2r.video.frames import (
    Clips,
    FrameCache,
    Frames,
    check_media,
    clips_of,
    fit_size,
    sample_frames,
)
from p2r.video.pictures import is_animated
from p2r.video.sampling import uniform_indices

__all__ = [
    "Clips",
    "FrameCache",
    "Frames",
    "VideoError",
    "check_media",
    "clips_of",
    "find_clips",
    "fit_size",
    "is_animated",
    "sample_frames",
    "uniform_indices",
]
