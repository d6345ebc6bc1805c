"""The addresses below `p2r/`, which are added to Gradio's own: pages, media, files, labels.

If a password is set, every address needs a sign-in. Files are requested by case, never by path.
The only change, a new label, is a POST of JSON from the browser's own page.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from p2r.browser.address import read_view
from p2r.browser.case_page import study_page
from p2r.browser.exchange import fiftyone_lines, label_studio_tasks
from p2r.browser.label_view import read_label
from p2r.browser.library import Library
from p2r.browser.markup import load_templates
from p2r.browser.media_view import render_frames, render_no_media
from p2r.browser.pages import render_page
from p2r.browser.site import Story, check_length, zip_site
from p2r.browser.study_view import study_of
from p2r.cases.export import KINDS, export_cases, text_lines
from p2r.cases.labels import MAX_NAME, export_labels, hide_verdict
from p2r.errors import StoreError, UserError
from p2r.files.media import media_type
from p2r.records import Case

MOST_BYTES_POSTED = 2**17
MOST_THUMBNAILS = 2  # that are made at the same time
_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_TEXTS: dict[str, Callable[[Case], str | None]] = {
    "problem": lambda case: case.question.problem,
    "observation": lambda case: case.trace.observation,
    "think": lambda case: case.trace.think,
    "text": lambda case: case.trace.text,
    "rationale": lambda case: case.verdict.rationale if case.verdict else None,
}
Handler = Callable[[Request], Response | Awaitable[Response]]


class Routes:
    """The handlers of the addresses, over one library."""

    def __init__(self, library: Library) -> None:
        self.library = library
        # More pictures at once would keep threads and decoders from the pages.
        self._few = asyncio.Semaphore(MOST_THUMBNAILS)

    def all(self) -> list[Route]:
        """Return the routes that are added to Gradio's server."""
        handlers: dict[str, Handler] = {
            "view": self._view,
            "media": self._media,
            "frames": self._frames,
            "thumb": self._thumb,
            "text": self._text,
            "figures": self._figures,
            "plotly.js": self._plotly,
            "export": self._export,
            "case.html": self._case_page,
            "labels": self._labels,
            "live": self._live,
            "task": self._task,
            "site.zip": self._site,
            "story.json": self._story,
        }
        routes = [
            Route(f"/p2r/{name}", _guarded(handler), methods=["GET"])
            for name, handler in handlers.items()
        ]
        return [*routes, Route("/p2r/label", _guarded(self._label), methods=["POST"])]

    def _view(self, request: Request) -> Response:
        if request.query_params.get("refresh"):
            self.library.refresh()
        view = read_view(request.query_params.multi_items())
        try:
            parts = render_page(self.library, view, _annotator(request))
        except StoreError as error:
            return PlainTextResponse(str(error), status_code=422, headers=_NO_STORE)
        later = BackgroundTask(self._prepare) if request.query_params.get("refresh") else None
        return JSONResponse(parts, headers=_NO_STORE, background=later)

    def _prepare(self) -> None:
        """Do what the next pages need, after the first page: templates, the sample to label."""
        load_templates()
        self.library.sample()

    def _live(self, request: Request) -> Response:
        """Return how many cases there are now, so that a page can follow a running stage."""
        return JSONResponse({"count": self.library.look()}, headers=_NO_STORE)

    def _case(self, request: Request) -> Case:
        return self.library.store.get(request.query_params.get("case", ""))

    # ---- media

    def _media(self, request: Request) -> Response:
        path = self.library.find_media(self._case(request))
        # Sandboxed, because an SVG image may contain scripts.
        return FileResponse(
            path,
            media_type=media_type(path) or "application/octet-stream",
            headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"},
        )

    def _frames(self, request: Request) -> Response:
        try:
            case = self._case(request)
            page = render_frames(self.library.sample_frames(case), case.trace.media)
        except (ValueError, OSError) as error:
            page = render_no_media("No frames", getattr(error, "reason", str(error)))
        return HTMLResponse(page, headers=_NO_STORE)

    async def _thumb(self, request: Request) -> Response:
        """Return a small frame of a clip, or the reason why there is none."""
        async with self._few:
            if await request.is_disconnected():  # the visitor has left the page of the list
                return Response(status_code=204, headers=_NO_STORE)
            return await run_in_threadpool(self._read_thumb, request)

    def _read_thumb(self, request: Request) -> Response:
        try:
            kind, data = self.library.thumbnail(request.query_params.get("case", ""))
        except (ValueError, OSError) as error:
            # Status 200: browsers write every failed request to their console.
            return PlainTextResponse(f"no frame: {error}", headers=_NO_STORE)
        # Another run may have the same case, so the browser asks whether the picture is the same.
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag, "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=f"image/{kind}", headers=headers)

    def _text(self, request: Request) -> Response:
        """Return one complete text of a case, as plain text."""
        part = _TEXTS.get(request.query_params.get("part", ""))
        text = part(self._case(request)) if part else None
        if text is None:
            return PlainTextResponse("there is no such text", status_code=404)
        data = text.encode("utf-8", "replace")
        return Response(data, media_type="text/plain; charset=utf-8", headers=_NO_STORE)

    # ---- curves

    def _figures(self, request: Request) -> Response:
        from p2r.browser.curves_view import draw_run, stamp

        folder = self.library.folders.get(request.query_params.get("run", ""))
        if folder is None:
            return PlainTextResponse("no such run is open", status_code=404)
        now, is_live = stamp(folder, self.library.store.version)
        if request.query_params.get("since") == now:
            return Response(status_code=204, headers=_NO_STORE)
        untrue = self.library.store.untrue_by_step(folder)
        parts = {"stamp": now, "live": is_live, "sections": draw_run(folder, untrue)}
        return JSONResponse(parts, headers=_NO_STORE)

    def _plotly(self, request: Request) -> Response:
        script, tag = _plotly_script()
        headers = {"Cache-Control": "max-age=86400", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(script, media_type="text/javascript", headers=headers)

    # ---- downloads

    def _export(self, request: Request) -> Response:
        kind = request.query_params.get("kind", "")
        if kind not in (*KINDS, "fiftyone"):
            return PlainTextResponse(
                f"the kind of the export must be one of {', '.join(KINDS)}, fiftyone",
                status_code=400,
            )
        view = read_view(request.query_params.multi_items())
        cases = self.library.store.cases(view.filters, view.sort, view.descending)
        if view.blind:
            cases = map(hide_verdict, cases)
        if kind == "fiftyone":
            return _download("fiftyone", "json", fiftyone_lines(cases, self._file_of))
        if kind != "parquet":
            return _download("cases", kind, text_lines(cases, kind))
        folder = tempfile.TemporaryDirectory(prefix="p2r-export-")
        file = Path(folder.name) / "cases.parquet"
        export_cases(cases, file, kind)
        done = BackgroundTask(folder.cleanup)
        kind = "application/octet-stream"
        headers = _attached(file.name)
        return FileResponse(file, media_type=kind, headers=headers, background=done)

    def _file_of(self, case: Case) -> Path | None:
        # A read-only browser is public: it does not tell where its files are.
        try:
            path = self.library.find_media(case)
        except (ValueError, OSError):
            return None
        return Path(case.question.path) if self.library.read_only else path

    def _site(self, request: Request) -> Response:
        content = zip_site(self.library, _story_of(request))
        return Response(content, media_type="application/zip", headers=_attached("story.zip"))

    def _story(self, request: Request) -> Response:
        story = _story_of(request).to_json()
        return Response(story, media_type="application/json", headers=_attached("story.json"))

    def _case_page(self, request: Request) -> Response:
        if request.query_params.get("blind"):  # a link from an older page
            reason = "in blind mode, label the case first: its page shows the verdict"
            return PlainTextResponse(reason, status_code=403, headers=_NO_STORE)
        study = study_of(self.library, self._case(request))
        name = hashlib.sha256(study.case.id.encode("utf-8", "replace")).hexdigest()[:10]
        headers = {**_attached(f"case-{name}.html"), "Content-Security-Policy": "sandbox"}
        return HTMLResponse(study_page(study), headers=headers)

    # ---- labels

    def _labels(self, request: Request) -> Response:
        if self.library.read_only:
            return PlainTextResponse("this browser is read-only: it does not export labels", 403)
        kind = request.query_params.get("kind", "")
        if kind not in ("csv", "jsonl"):
            return PlainTextResponse("the kind of the export must be csv or jsonl", status_code=400)
        return _download("labels", kind, export_labels(self.library.labels(), kind))

    def _task(self, request: Request) -> Response:
        """Return the cases of the sample: as a task file, or as tasks of Label Studio."""
        ids = self.library.sample()
        if request.query_params.get("kind") == "labelstudio":
            tasks = label_studio_tasks(self.library.store.get(case_id) for case_id in ids)
            return _download("label-studio", "json", tasks)
        return _download("task", "jsonl", (json.dumps({"id": case_id}) + "\n" for case_id in ids))

    async def _label(self, request: Request) -> Response:
        # A form on another site cannot post JSON. `p2r.browser.guard` checks the origin.
        if not request.headers.get("content-type", "").startswith("application/json"):
            return PlainTextResponse(
                "labels are accepted only from the page of the case browser", status_code=403
            )
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES_POSTED:
                return PlainTextResponse(
                    "the label is too long: shorten the comment", status_code=413
                )
        return await run_in_threadpool(self._add_label, body)

    def _add_label(self, body: bytes) -> Response:
        try:
            data = json.loads(body)
            label = read_label(data)
            self.library.store.get(label.case)
            file = self.library.label_file(label.case)
            name = label.annotator.strip()
            try:
                self.library.names[self.library.store.run_of(label.case)].claim(
                    name,
                    str(data.get("key", ""))[:100],
                    any(other.annotator == name for other in file.labels()),
                    bool(data.get("is_me")),
                )
            except UserError as error:
                # Status 200: browsers write every failed request to their console.
                return JSONResponse({"refused": str(error)}, headers=_NO_STORE)
            # After the first label the verdict is shown, so a later label is never blind.
            blind = label.blind and not file.has_labelled(label.case, label.annotator)
            kept = file.add(label.model_copy(update={"blind": blind}))
        except (ValueError, RecursionError) as error:
            return PlainTextResponse(str(error), status_code=422)
        except OSError as error:
            return PlainTextResponse(f"the label cannot be written: {error}", status_code=507)
        return JSONResponse(kept.model_dump(mode="json"), headers=_NO_STORE)


def _story_of(request: Request) -> Story:
    view = read_view(request.query_params.multi_items())
    story = Story(view.title, view.items)
    check_length(story)
    return story


def _attached(name: str) -> dict[str, str]:
    """Return the headers of a file that the browser saves under a name."""
    return {**_NO_STORE, "Content-Disposition": f'attachment; filename="{name}"'}


def _download(name: str, kind: str, lines: Iterator[str]) -> Response:
    media_type = "text/csv" if kind == "csv" else f"application/{kind}"
    headers = _attached(f"{name}.{kind}")
    return StreamingResponse(lines, media_type=media_type, headers=headers)


def _annotator(request: Request) -> str:
    """Return the name under which the visitor labels. It gives no rights."""
    return unquote(request.headers.get("x-annotator", ""))[:MAX_NAME].strip()


def _guarded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler with a check of the sign-in, and with failures as one line of text."""

    async def endpoint(request: Request) -> Response:
        if not _is_known(request):
            return PlainTextResponse("sign in first: reload the page", status_code=401)
        try:
            if inspect.iscoroutinefunction(handler):
                return await handler(request)
            return await run_in_threadpool(handler, request)
        except (ValueError, OSError, TypeError, LookupError) as error:
            # A run may come from someone else, with values that no page expects.
            reason = getattr(error, "reason", None) or str(error)
            return PlainTextResponse(reason, status_code=404, headers=_NO_STORE)

    return endpoint


def _is_known(request: Request) -> bool:
    """Return whether a visitor has signed in or no password is set. Gradio keeps the tokens."""
    app = request.app
    if app.auth is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names)


@lru_cache(maxsize=1)
def _plotly_script() -> tuple[bytes, str]:
    from plotly import __version__
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().encode(), f'"plotly-{__version__}"'
