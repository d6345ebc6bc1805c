"""Tells which visual tokens of a clip show an object or the sign."""

from __future__ import annotations

from p2r.playground.second.world import SIGN_TOP, STAGE, Scene

SLICES = 4  # pairs of frames in a clip; each begins at a whole second
SIGN = "sign says"  # the words before the text of a sign
LETTER = 6.0  # stage units per letter of a sign


def visual_tokens(scene: Scene, height: int, width: int) -> dict[str, list[list[int]]]:
    """Return the visual tokens at the centre of each object, by its name, and of the sign.

    Each slice has a list, which is empty while the object is not there. `height` and `width` are
    the visual tokens of a frame. Tokens are numbered by slice, row and column. A hidden object has
    none.
    """
    found: dict[str, list[list[int]]] = {}
    if scene.sign:
        row = int((SIGN_TOP + LETTER / 2) * height / STAGE)
        first, last = scene.sign_x, scene.sign_x + LETTER * len(scene.sign)
        columns = range(int(first * width / STAGE), int(last * width / STAGE) + 1)
        found[SIGN] = [[(t * height + row) * width + c for c in columns] for t in range(SLICES)]
    for obj in scene.objects:
        slices = found.setdefault(obj.name, [])
        for second in range(SLICES):
            slices.append([])
            if obj.visible(second) and obj.name not in scene.hidden:
                x, y = obj.position(second + 0.25)
                row, column = int(y * height / STAGE), int(x * width / STAGE)
                slices[-1].append((second * height + row) * width + column)
    return found
