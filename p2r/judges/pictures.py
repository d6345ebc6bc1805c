"""The pictures in a request to a multimodal judge."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FRAMES, PIXELS = 8, 448 * 448  # of a video, and of one frame, by default
PIXELS_PER_TOKEN = 750  # of Claude; Qwen2.5-VL has 784


@dataclass(frozen=True)
class Picture:
    """One frame as a JPEG file. `caption` is the text before it ("": none)."""

    jpeg: bytes
    width: int
    height: int
    caption: str = ""

    @property
    def base64(self) -> str:
        return base64.b64encode(self.jpeg).decode()

    @property
    def tokens(self) -> int:
        """The most tokens that a server counts for the picture.

        Servers count about one token for 750 pixels (Claude) or 784 pixels (Qwen2.5-VL), or a fixed
        number for a small picture.
        """
        return 300 + self.width * self.height // 400


class Prompt(str):
    """The text of a request. `pictures` are shown before it."""

    pictures: tuple[Picture, ...] = ()

    @classmethod
    def of(cls, text: str, pictures: tuple[Picture, ...] = ()) -> Prompt:
        prompt = cls(text)
        prompt.pictures = pictures
        return prompt


def pictures_of(prompt: str) -> tuple[Picture, ...]:
    """Return the pictures of a prompt; a plain text has none."""
    return getattr(prompt, "pictures", ())


def usual_tokens(member: Mapping[str, Any]) -> float:
    """Return the tokens of the frames that a judge sees, from its settings (0: it sees none)."""
    if member["kind"] != "vision":
        return 0.0
    return member.get("frames", FRAMES) * member.get("pixels", PIXELS) / PIXELS_PER_TOKEN
