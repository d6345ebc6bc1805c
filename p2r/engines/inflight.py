"""What was being worked on when a process died: intents, and samples that are tried apart.

Before an engine gets a request, its key goes into `NAME.inflight.jsonl`; an ordinary end, a user's
error or Ctrl-C removes the file. What a dead process, or a dead engine, leaves there without an
outcome is suspected of having killed it, and is tried in a process of its own before anything else:
together, then one by one. The sample whose process dies or hangs while it is alone is set aside
with that reason; the run itself lives on. Suspects that did nothing (someone pulled the plug) are
simply answered.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from p2r.engines.apart import Death

log = logging.getLogger(__name__)

# A sample that is alone in flight when the whole run dies, parent and all (a container that runs
# out of memory, but also a plug that was pulled), is set aside when that has happened so often.
DEATHS_ALONE = 3
HANG_EXIT = 75  # EX_TEMPFAIL: start the same command again


class Inflight:
    """The intents of one stage: which keys are in an engine's hands now.

    Written without waiting for the disk: a dead process loses nothing that it has written, and a
    dead machine does not make a sample suspect. Used in a `with` block; every end of it but a death
    (see `may_be_poison`) leaves only the suspects that are not settled yet.
    """

    def __init__(self, path: str | Path, done: Callable[[str], bool]) -> None:
        self.path = Path(path)
        begun, self.deaths_alone = _read_intents(self.path)
        self._suspects = {key: None for key in begun if not done(key)}

    @property
    def suspects(self) -> list[str]:
        """The keys that an earlier process began and nobody has ended, in their order."""
        return list(self._suspects)

    def begin(self, keys: Sequence[str], apart: bool = False) -> None:
        """Write down that these keys are begun; `apart`: in a process of their own."""
        line = {"begin": list(keys)} | ({"alone": True} if apart and len(keys) == 1 else {})
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))  # a torn line before it stays by itself

    def settle(self, key: str) -> None:
        """There is an outcome: the key is no suspect any more."""
        self._suspects.pop(key, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and may_be_poison(error):
            return
        self.path.unlink(missing_ok=True)
        if self._suspects:
            self.begin(self.suspects)


def may_be_poison(error: BaseException) -> bool:
    """Whether what was in flight may have caused an error: a dead engine (`died`), memory that ran
    out, a fault of a library; what users are told of (ValueError, OSError) is none of it.
    """
    if isinstance(error, ValueError | OSError):
        return getattr(error, "died", False)
    return isinstance(error, Exception)


def _read_intents(path: Path) -> tuple[list[str], Counter[str]]:
    """Keys begun, and how often each was the last one begun, alone, when everything died."""
    begun: dict[str, None] = {}
    alone: Counter[str] = Counter()
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
            keys = [str(key) for key in entry["begin"]]
        except (ValueError, TypeError, KeyError):
            continue  # torn by the death that it tells of
        begun |= dict.fromkeys(keys)
        if entry.get("alone"):
            alone.update(keys)
    return list(begun), alone


# ---- tried apart


def try_apart(
    keys: Sequence[str], inflight: Inflight, ask: Callable[[list[str]], Any | Death], group: int
) -> Iterator[tuple[list[str], Any | Death]]:
    """Ask about suspects, `group` at a time; those of a group that died one by one.

    Yields keys with the answer of `ask`, or one key with the `Death` it died.
    """
    again = [key for key in keys if not inflight.deaths_alone[key]]
    groups = [again[start : start + group] for start in range(0, len(again), group)]
    groups += [[key] for key in keys if inflight.deaths_alone[key]]  # these last: others first
    for some in groups:
        if inflight.deaths_alone[some[0]] >= DEATHS_ALONE:
            yield some, Death(f"the run died {DEATHS_ALONE} times while this sample ran alone")
            continue
        inflight.begin(some, apart=True)
        answer = ask(some)
        if not isinstance(answer, Death) or len(some) == 1:
            yield some, answer
            continue
        log.warning("a group of %d died and is tried one by one: %s", len(some), answer.reason)
        for key in some:
            inflight.begin([key], apart=True)
            yield [key], ask([key])


class Watchdog:
    """Ends this process where nothing happens for `limit` seconds between `begin` and `end`.

    A hang inside a library cannot be interrupted; a process can, and the intents tell the next one
    what to try apart. None: no watch.
    """

    def __init__(self, limit: float | None, stage: str) -> None:
        self.limit, self.stage = limit, stage
        self._last = time.monotonic()
        self._stop = threading.Event()

    def alive(self) -> None:
        """Something happened."""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self.limit is not None:
            self.alive()
            threading.Thread(target=self._watch, args=(self.limit,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()

    def _watch(self, limit: float) -> None:
        while not self._stop.wait(min(1.0, limit / 4)):
            if time.monotonic() - self._last > limit:
                message = (
                    f"error: {self.stage}: no answer for {limit:g} s, stopped; the same command "
                    "goes on from here and tries what was in flight apart\n"
                )
                os.write(2, message.encode())
                os._exit(HANG_EXIT)
