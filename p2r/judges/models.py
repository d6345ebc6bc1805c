"""Features of single models of the Messages API.

A judge explains its verdict in three sentences. If a model thinks by default, thinking is
switched off, because it would use up the tokens of the verdict. If a model cannot switch it off, it
is kept short.

Source: platform.claude.com, prompt caching and migration guides (November 2026).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_THINKING = {"thinking": {"type": "disabled"}}
# For models that refuse `disabled`: no thinking before the reply, or little thinking.
NONE_BEFORE = {"thinking": {"type": "between_tools"}}
LITTLE_THINKING = {"output_config": {"effort": "low"}}
_SNAPSHOT = re.compile(r"-(?:\d{8}|latest)")


@dataclass(frozen=True)
class Features:
    """The fewest tokens that the prompt cache accepts, and fields of every request."""

    cacheable: float = math.inf
    request: Mapping[str, Any] = field(default_factory=dict)


MODELS = {
    "claude-opus-5-5": Features(4096, LITTLE_THINKING),
    "claude-sonnet-5-5": Features(4096, NONE_BEFORE),
    "claude-haiku-5-5": Features(4096, NO_THINKING),
    "claude-opus-5": Features(512, NO_THINKING),
    "claude-sonnet-5": Features(1024, NO_THINKING),
    "claude-opus-4-8": Features(1024),
    "claude-sonnet-4-6": Features(2048),
    "claude-sonnet-4-5": Features(1024),
    "claude-haiku-4-5": Features(4096),
    "claude-3-7-sonnet": Features(1024),  # the paper's judge
}


def features_of(model: str) -> Features:
    """Return the features of a model or of a snapshot of it; the defaults for an unknown model."""
    return MODELS.get(without_snapshot(model), Features())


def without_snapshot(model: str) -> str:
    """Return a model's name without the date of a snapshot (or "latest") at its end."""
    return _SNAPSHOT.sub("", model)
