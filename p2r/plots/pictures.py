"""Pictures of frames."""

from __future__ import annotations

from PIL import Image, ImageDraw

from p2r.video import Frames


def contact_sheet(frames: Frames, side: int = 112, columns: int = 8) -> Image.Image:
    """Return the sampled frames in rows, each with its time above it."""
    _, height, width, _ = frames.shape
    scale = side / height
    cell = (max(1, round(width * scale)), side)
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * (cell[0] + 4), rows * (side + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (pixels, time) in enumerate(zip(frames.frames, frames.timestamps, strict=True)):
        left, top = place % columns * (cell[0] + 4), place // columns * (side + 16)
        draw.text((left + 2, top + 2), f"{time:.2f} s", fill="black")
        picture = Image.fromarray(pixels).resize(cell, Image.Resampling.NEAREST)
        sheet.paste(picture, (left, top + 16))
    return sheet
