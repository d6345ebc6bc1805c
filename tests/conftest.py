"""Shared paths of the tests."""

from pathlib import Path

import pytest

# Real videos, traces and predictions live beside the checkout; tests that need them skip where they
# are absent.
SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_data(part: str) -> Path:
    """The path of a part of the shared data, or a skip that says it is absent."""
    path = SHARED / "data" / part
    if not path.exists():
        pytest.skip(f"shared data absent: {part}")
    return path
