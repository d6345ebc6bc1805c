"""The media of a case: the player, and the frames that the model saw with their times."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from p2r.browser.markup import render
from p2r.records import Case

if TYPE_CHECKING:
    from p2r.video import Frames

# Narrower frames are enlarged without smoothing and sent without loss.
PIXELATED_BELOW = 160
SMALL_SIDE = 280


def render_media(case: Case, problem: str | None) -> Markup:
    """Return the player and the place for the frames, which the page fetches; or the `problem`."""
    if problem is not None:
        return render_no_media("No media", problem)
    return render("media.html", case=case)


def render_no_media(title: str, reason: str) -> Markup:
    """Return a placeholder with the reason why there are no media."""
    return Markup('<div class="no-media"><b>{}</b><span>{}</span></div>').format(title, reason)


def render_frames(frames: Frames, recorded: Mapping[str, Any]) -> Markup:
    """Return the frames that the model saw, with their times. A click moves the player there."""
    return render(
        "frames.html",
        frames=frames,
        warning=_find_warning(frames, recorded),
        data_uri=data_uri,
        pixelated_below=PIXELATED_BELOW,
    )


def _find_warning(frames: Frames, recorded: Mapping[str, Any]) -> str:
    """Return a warning about damaged media, or frames that differ from the recorded ones."""
    if frames.note:
        return frames.note
    if not recorded:
        return (
            "The trace does not say how its frames were sampled. These are frames sampled with the "
            "default settings."
        )
    indices = recorded.get("indices")
    if indices is not None and indices != list(frames.indices):
        return (
            "These are other frames than the trace recorded: the file or the decoder has changed."
        )
    return ""


def data_uri(pixels: Any) -> Markup:
    """Return an image as a data URI: a small one without loss (PNG), a larger one as JPEG."""
    kind, data = encode_image(Image.fromarray(pixels))
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def small_uri(pixels: Any) -> Markup:
    """Return an image as a data URI of few kilobytes, for pages that are sent to others."""
    image = Image.fromarray(pixels)
    if image.width < PIXELATED_BELOW:
        return data_uri(pixels)
    image.thumbnail((SMALL_SIDE, SMALL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=75)
    return Markup(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def encode_image(image: Image.Image) -> tuple[str, bytes]:
    """Return "png" or "jpeg", and the image in that format."""
    buffer = io.BytesIO()
    kind = "png" if image.width < PIXELATED_BELOW else "jpeg"
    image.save(buffer, kind, **({"quality": 88} if kind == "jpeg" else {}))
    return kind, buffer.getvalue()
