"""The media of a case: the player, and the frames the model saw with their times."""

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

# Frames narrower than this are enlarged without smoothing and sent without loss.
_PIXELATED_BELOW = 160


def render_media(case: Case, problem: str | None) -> Markup:
    """The player and the place of the frames, which the page fetches; or why there is neither."""
    if problem is not None:
        return render_no_media("No media", problem)
    query = urlencode({"case": case.id})
    if case.question.data_type == "image":
        player = Markup('<img class="player" src="p2r/media?{}" alt="the image of the question">')
    else:
        player = Markup(
            '<video class="player" src="p2r/media?{}" controls muted loop playsinline '
            'preload="metadata" aria-label="the video of the question"></video>'
            '<p class="unplayable" hidden>Your browser cannot play this file. The model saw the '
            "frames below.</p>"
        )
    return Markup(
        '{}<div class="frames" data-frames="p2r/frames?{}" data-case="{}" aria-live="polite">'
        '<p class="absent">reading frames …</p></div>'
    ).format(player.format(query), query, case.id)


def render_no_media(title: str, reason: str) -> Markup:
    """A placeholder that says why there is nothing to see."""
    return Markup('<div class="no-media"><b>{}</b><span>{}</span></div>').format(title, reason)


def render_frames(frames: Frames, recorded: Mapping[str, Any]) -> Markup:
    """The frames the model saw with their times; choosing one moves the player there."""
    count, height, width = frames.shape[:3]
    facts = [f"{count} frame{'s' * (count != 1)}", f"{width} × {height}", frames.decoder]
    if count > 1:
        facts.insert(2, f"{frames.sampled_fps:.2f} of {frames.fps:.2f} fps")
    style = "pixelated" if width < _PIXELATED_BELOW else ""
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
            _data_uri(pixels),
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
    """What a reader should know: a damaged file, other frames than the trace says it gave."""
    if frames.note:
        return Markup('<p class="warning">{}</p>').format(frames.note)
    if not recorded:
        return Markup('<p class="warning">{}</p>').format(
            "The trace does not say how its frames were sampled: these are the default ones."
        )
    indices = recorded.get("indices")
    if indices is not None and indices != list(frames.indices):
        return Markup('<p class="warning">{}</p>').format(
            "The file gives other frames now than the trace recorded: it was changed, or the "
            "decoder was."
        )
    return Markup("")


def _data_uri(pixels: Any) -> Markup:
    """Small frames exactly (PNG), larger ones as JPEG of high quality."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    kind = "png" if image.width < _PIXELATED_BELOW else "jpeg"
    image.save(buffer, kind, **({"quality": 88} if kind == "jpeg" else {}))
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Markup(f"data:image/{kind};base64,{encoded}")
