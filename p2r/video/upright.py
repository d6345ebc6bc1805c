"""Turns a decoded frame upright, makes its pixels square, and converts it to RGB."""

from __future__ import annotations

import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame

from p2r.video.colour import to_sdr
from p2r.video.pictures import fit
from p2r.video.sampling import Wanted


def orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """Return how to turn a frame upright: swap rows and columns, flip up-down, flip left-right.

    The display matrix (a b u, c d v, x y w) sends column x and row y to ax + cy and bx + dy.
    """
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def upright_size(frame: VideoFrame, aspect: float, wanted: Wanted) -> tuple[int, int]:
    """Return the (height, width) of the upright frame with square pixels.

    `aspect` is the width of a stored pixel divided by its height.
    """
    height, width = frame.height, frame.width
    if aspect >= 1:
        width = round(width * aspect)
    else:
        height = round(height / aspect)
    return fit(*((width, height) if orientation(frame)[0] else (height, width)), wanted)


def to_pixels(frame: VideoFrame, size: tuple[int, int], transfer: int) -> np.ndarray:
    """Return upright RGB (H, W, 3) of the given size.

    `transfer` is the transfer function of the colours if it is a key of `HDR`, else 0.
    """
    swap, flip_rows, flip_columns = orientation(frame)
    height, width = size[::-1] if swap else size
    form = "rgb48le" if transfer else "rgb24"
    pixels = frame.to_ndarray(format=form, width=width, height=height, interpolation="BILINEAR")
    if transfer:
        pixels = to_sdr(pixels, transfer, wide=int(frame.color_primaries) != 1)
    pixels = pixels.transpose(1, 0, 2) if swap else pixels
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
