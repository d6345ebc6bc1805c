"""The frames of a training: a cache that all runs share, and decoding ahead of the next step."""

from __future__ import annotations

from p2r.files.disk_cache import cache_folder
from p2r.runs.recipe import VideoSettings
from p2r.video import FrameCache

GIB = 2**30


def shared_frames(video: VideoSettings) -> FrameCache:
    """Return a cache of frames; on disk it is shared with other runs and OS processes."""
    if not video.cache_gb:
        return FrameCache(None)
    return FrameCache(cache_folder() / "frames", disk_bytes=int(video.cache_gb * GIB))
