"""Curves that move while a cell trains, with a stop button."""

from __future__ import annotations

import _thread
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets
from IPython.display import DisplayHandle, display

from p2r import plots
from p2r.runs import Run
from p2r.workshop.widgets.panel import PLOTLY, FigureView, figure_data

PAUSE = 1.0  # seconds between two drawings, and between two looks at a metrics file


class LiveCurves:
    """Curves over the steps of a training; `add` draws a new point.

        with LiveCurves({"reward": "reward"}, "My trainer") as curves:
            for step in curves.steps(40):
                curves.add({"step": step, "reward": train()})

    The Stop button ends `steps` after the present step. Where a front end does not deliver clicks
    while a cell runs, interrupt the kernel (■, or the keys I, I): the block ends without an error.
    """

    def __init__(self, keys: Mapping[str, str], title: str = "", y_title: str = "") -> None:
        self.keys = dict(keys)
        self.title = title
        self.y_title = y_title
        self.rows: list[dict[str, Any]] = []
        self.stopped = False
        self.shown: DisplayHandle | None = None  # None outside IPython
        self._drawn = 0.0  # the time of the last drawing
        self.button = ipywidgets.Button(
            description="Stop", icon="stop", tooltip="end the training after this step"
        )
        self.button.on_click(lambda _: self.stop())
        self.view = FigureView()
        self.widget = ipywidgets.VBox([self.button, self.view])

    @property
    def figure(self) -> Any:
        """The curves so far."""
        return plots.training(self.rows, self.keys, self.title, self.y_title)

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Add the metrics of one or more steps; draw the curves again, at most once a second."""
        self.rows += [dict(row) for row in rows]
        if time.monotonic() - self._drawn >= PAUSE:  # a browser draws a figure slowly
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self.view.show(self.figure, self.describe())

    def describe(self) -> str:
        """Return the last values as a sentence."""
        if not self.rows:
            return "no step yet"
        last = self.rows[-1]
        values = ", ".join(
            f"{name} {value:.3g}"
            for name, key in self.keys.items()
            if (value := plots.drawable(last.get(key))) is not None
        )
        return f"step {last['step']}: {values}"

    def stop(self) -> None:
        """End `steps` after the present step."""
        self.stopped = True
        self.button.description = "Stopped"
        self.button.disabled = True

    def steps(self, count: int) -> Iterator[int]:
        """Yield 1, 2, … up to `count`, until someone presses Stop."""
        for step in range(1, count + 1):
            if self.stopped:
                print(f"stopped before step {step}")
                return
            yield step

    def __enter__(self) -> LiveCurves:
        self.shown = display(self._repr_mimebundle_(), raw=True, display_id=True)
        deliver_clicks_at_once(self.button)
        return self

    def __exit__(self, kind: Any, *_: Any) -> bool:
        self.button.disabled = True
        self._draw()
        if self.shown is not None:  # so that the saved notebook has the whole curves
            self.shown.update(self._repr_mimebundle_(), raw=True)
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if interrupted:
            print(f"stopped by hand; {self.describe()}")
        return interrupted

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = self.widget._repr_mimebundle_(**options) or {}
        return {**bundle, PLOTLY: figure_data(self.figure), "text/plain": self.describe()}


def deliver_clicks_at_once(button: ipywidgets.Button) -> None:
    """Let the clicks of a button arrive while a cell runs.

    ipykernel 7 sends a click to the thread that used the button last. That is the thread of the
    cell, which is busy. Without this note, the click goes to a thread of its own (a subshell).
    """
    vars(button.comm).pop("_reply_subshell_id", None)


@contextmanager
def watch(run: Run, stage: str, keys: Mapping[str, str], title: str = "") -> Iterator[LiveCurves]:
    """Draw the metrics of a stage while the block trains it.

        with widgets.watch(run, "pa_grpo", {"answers": "reasoning/accuracy"}):
            stages.rl(run, "process")

    Stop interrupts the training. Run the cell again to continue from its last checkpoint.
    """
    curves = LiveCurves(keys, title or stage)
    file = run.path(stage, "metrics.jsonl")
    done = threading.Event()
    curves.button.on_click(lambda _: _thread.interrupt_main())

    def follow() -> None:
        while not done.wait(PAUSE):
            _read_new(file, curves)

    reader = threading.Thread(target=follow, name="curves", daemon=True)
    with curves:
        _read_new(file, curves)
        reader.start()
        try:
            yield curves
        finally:
            done.set()
            reader.join()
            _read_new(file, curves)


def _read_new(file: Path, curves: LiveCurves) -> None:
    """Add the complete lines of a metrics file that the curves do not have yet."""
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    if len(lines) > len(curves.rows):
        curves.add(*map(json.loads, lines[len(curves.rows) :]))
