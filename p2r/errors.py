"""The errors of p2r: one class for each kind of cause.

Every message says what went wrong, where, and what to do. All of them are `ValueError`s, so that
`except ValueError` catches them; the command line prints them as one line and exits with code 2.
"""

from __future__ import annotations

import os


class P2RError(ValueError):
    """Base class of every error that p2r raises for its users."""


class UserError(P2RError):
    """A command, setting, recipe, run folder or request that cannot work as given."""


class DataError(P2RError):
    """A file, record, question or model input that cannot be read or used."""


class EngineError(P2RError):
    """A model or an inference engine that cannot be loaded or cannot answer."""


class JudgeError(P2RError):
    """A judge that cannot be used, or whose budget is spent."""


class StoreError(P2RError):
    """A journal, cache or case store that cannot be written, read or queried."""


class TrainingError(P2RError):
    """A training run that cannot start or go on."""


class MediaError(DataError):
    """A media path that is refused: `path` and a one-line `reason`."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(os.fspath(path), reason)
        self.path, self.reason = os.fspath(path), reason

    def __str__(self) -> str:
        return f"cannot use media path {self.path!r}: {self.reason}"


class VideoError(DataError):
    """A video or image that cannot be decoded: `path` and a one-line `reason`.

    `lost` is true if the decoder crashed or hung. This can be a shortage of memory or time, so one
    retry is worthwhile.
    """

    lost = False

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(os.fspath(path), reason)
        self.path, self.reason = os.fspath(path), reason

    def __str__(self) -> str:
        return f"cannot read {self.path}: {self.reason}"


class EngineDied(EngineError):
    """An engine that ended while it was working; a sample in progress may be the cause."""

    died = True  # read by `p2r.engines.crash_recovery` and `p2r.workers`


class PreflightError(TrainingError):
    """A start model from which RL would learn nothing, or an example that does not fit."""
