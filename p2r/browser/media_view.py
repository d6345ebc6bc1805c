"""The media of a case: the player, and the frames that the model saw with their times."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from markupsafe import Markup
from PIL import Image

from p2r.browser.markup import chip, join
from p2r.records import Case

if TYPE_CHECKING:
    from p2r.video import Frames

# Narrower frames are enlarged without smoothing and sent without loss.
PIXELATED_BELOW = 160


def render_media(case: Case, problem: str | None) -> Markup:
    """Return the player and the place for the frames, which the page fetches; or the `problem`."""
    if problem is not None:
        return render_no_media("No media", problem)
    query = urlencode({"case": case.id})
    if case.question.data_type == "image":
        player = Markup('<img class="player" src="p2r/media?{}" alt="the image of the question">')
    else:
        player = Markup(
            '<video class="player" src="p2r/media?{}" controls muted loop playsinline '
            'preload="metadata" aria-label="the video of the question"></video>'
            '<p class="unplayable" hidden>Your browser cannot play this file. The frames '
            "below are what the model saw.</p>"
        )
    return Markup(
        '{}<div class="frames" data-frames="p2r/frames?{}" data-case="{}" aria-live="polite">'
        '<p class="absent">loading frames …</p></div>'
    ).format(player.format(query), query, case.id)


def render_no_media(title: str, reason: str) -> Markup:
    """Return a placeholder with the reason why there are no media."""
    return Markup('<div class="no-media"><b>{}</b><span>{}</span></div>').format(title, reason)


def render_frames(frames: Frames, recorded: Mapping[str, Any]) -> Markup:
    """Return the frames that the model saw, with their times. A click moves the player there."""
    count, height, width = frames.shape[:3]
    facts = [f"{count} frame{'s' * (count != 1)}", f"{width} × {height}", frames.decoder]
    if count > 1:
        facts.insert(2, f"{frames.sampled_fps:.2f} of {frames.fps:.2f} fps")
    style = "pixelated" if width < PIXELATED_BELOW else ""
    items = join(
        Markup(
            '<button type="button" data-seek="{:.3f}" title="frame {} of the file">'
            '<img class="{}" width="{}" height="{}" src="{}" alt="frame {} of {}">'
            "<span>{}</span></button>"
        ).format(
            time,
            index,
            style,
            width,
            height,
            data_uri(pixels),
            place,
            count,
            "image" if frames.decoder == "image" else f"{time:.2f} s",
        )
        for place, (pixels, time, index) in enumerate(
            zip(frames.frames, frames.timestamps, frames.indices, strict=True), start=1
        )
    )
    return Markup(
        '<h3>What the model saw <span class="notes">{}</span></h3>{}<div class="strip">{}</div>'
    ).format(join(chip("", fact) for fact in facts), _render_warning(frames, recorded), items)


def _render_warning(frames: Frames, recorded: Mapping[str, Any]) -> Markup:
    """Return a warning about damaged media, or frames that differ from the recorded ones."""
    if frames.note:
        return Markup('<p class="warning">{}</p>').format(frames.note)
    if not recorded:
        return Markup('<p class="warning">{}</p>').format(
            "The trace does not say how its frames were sampled. These are frames sampled with the "
            "default settings."
        )
    indices = recorded.get("indices")
    if indices is not None and indices != list(frames.indices):
        return Markup('<p class="warning">{}</p>').format(
            "These are other frames than the trace recorded: the file or the decoder has changed."
        )
    return Markup("")


def data_uri(pixels: Any) -> Markup:
    """Return an image as a data URI: a small one without loss (PNG), a larger one as JPEG."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    kind = "png" if image.width < PIXELATED_BELOW else "jpeg"
    image.save(buffer, kind, **({"quality": 88} if kind == "jpeg" else {}))
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Markup(f"data:image/{kind};base64,{encoded}")
