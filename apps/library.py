"""The opened runs: their cases, where their media lie, and the two addresses that serve media."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from apps.media_views import render_frames, render_no_media
from p2r.media import MediaError, resolve_media
from p2r.records import Case
from p2r.store import CaseStore, StoreError
from p2r.video import FrameCache, Frames

_FRAME_SETTINGS = ("max_frames", "max_pixels", "factor")
_CACHE_BYTES = 2**28


class Library:
    """The cases of some runs and their media.

    Media are asked for by case, never by path: only files that a case names, below its run's media
    root, can be read. Methods may be called from several threads.
    """

    def __init__(self, runs: Sequence[str | Path], media_root: str | Path | None = None) -> None:
        self.store = CaseStore(runs)
        self._roots = {
            file: Path(media_root) if media_root else find_media_root(file.parent)
            for file in self.store.files
        }
        self._frames = FrameCache(None, max_bytes=_CACHE_BYTES)

    def find_media(self, case: Case) -> Path:
        """The media file of a case; raises `MediaError` where it is refused or absent."""
        root = self._roots[self.store.file_of(case.id)]
        path = resolve_media(root, case.question.path)
        if not path.is_file():
            raise MediaError(case.question.path, "there is no such file below the media root")
        return path

    def sample_frames(self, case: Case) -> Frames:
        """The frames the model saw: the file sampled again with the settings the trace recorded.

        Raises `MediaError`, `VideoError`, or `ValueError` for recorded settings that make no sense.
        """
        recorded = {name: case.trace.media.get(name) for name in _FRAME_SETTINGS}
        settings = {name: value for name, value in recorded.items() if isinstance(value, int)}
        return self._frames.get(self.find_media(case), **settings)

    def routes(self) -> list[Route]:
        """`media?case=ID` (the file, in ranges) and `frames?case=ID` (a piece of the page)."""
        return [Route("/media", self._serve_media), Route("/frames", self._serve_frames)]

    def _serve_media(self, request: Request) -> Response:
        try:
            path = self.find_media(self.store.get(request.query_params.get("case", "")))
        except (StoreError, MediaError) as error:
            return PlainTextResponse(str(error), status_code=404)
        kind = mimetypes.guess_type(path)[0] or ""
        safe = kind.startswith(("video/", "image/"))
        # Sandboxed: an image may be a drawing with scripts in it.
        return FileResponse(
            path,
            media_type=kind if safe else "application/octet-stream",
            headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"},
        )

    def _serve_frames(self, request: Request) -> Response:
        try:
            case = self.store.get(request.query_params.get("case", ""))
            page = render_frames(self.sample_frames(case), case.trace.media)
        except ValueError as error:
            page = render_no_media("No frames", getattr(error, "reason", str(error)))
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})


def find_media_root(run: Path) -> Path:
    """A run's media: the folder that its file `data_root` names, else `media`, else the run."""
    named = run / "data_root"
    if named.is_file():
        return run / named.read_text(encoding="utf-8").strip()
    return run / "media" if (run / "media").is_dir() else run
