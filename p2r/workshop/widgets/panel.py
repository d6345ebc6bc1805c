"""A panel: controls, a figure that follows them, and a sentence that says what the figure shows.

All controls can be reached and changed with the keyboard. The sentence is announced to screen
readers. Without a kernel, a saved notebook shows the figure as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets
import plotly.graph_objects as go

PLOTLY = "application/vnd.plotly.v1+json"


@dataclass(frozen=True)
class Picture:
    """What a panel shows for one state: a figure, a sentence about it, and more as HTML."""

    figure: go.Figure
    text: str
    html: str = ""


def figure_data(figure: go.Figure) -> dict[str, Any]:
    """Return the data that JupyterLab draws a figure from."""
    return json.loads(figure.to_json())


class FigureView(ipywidgets.Output):
    """A widget that shows a figure and can change it at any time, also from another thread."""

    def __init__(self, height: int = 360) -> None:
        super().__init__(layout={"height": f"{height}px", "overflow": "hidden"})

    def show(self, figure: go.Figure, text: str = "") -> None:
        """Replace the figure, and take over its height."""
        if figure.layout.height:
            self.layout.height = f"{figure.layout.height}px"
        data = {PLOTLY: figure_data(figure), "text/plain": text or "a figure"}
        self.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


class Panel:
    """Controls with a picture that is drawn again on every change.

    `draw` gets the value of every control by its name and returns a `Picture`.
    """

    def __init__(
        self, draw: Callable[..., Picture], controls: Mapping[str, ipywidgets.ValueWidget]
    ) -> None:
        self.draw = draw
        self.controls = dict(controls)
        self.view = FigureView(self.picture.figure.layout.height or 360)
        self.sentence = ipywidgets.HTML()
        self.extra = ipywidgets.HTML()
        self.widget = ipywidgets.VBox(
            [ipywidgets.VBox(list(self.controls.values())), self.sentence, self.extra, self.view]
        )
        for control in self.controls.values():
            control.observe(self._refresh, names="value")
        self._refresh()

    @property
    def state(self) -> dict[str, Any]:
        """The value of every control by its name."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def picture(self) -> Picture:
        """The picture of the present state."""
        return self.draw(**self.state)

    def _refresh(self, change: Any = None) -> None:
        picture = self.picture
        self.view.show(picture.figure, picture.text)
        self.sentence.value = f'<div role="status" aria-live="polite">{escape(picture.text)}</div>'
        self.extra.value = picture.html

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        picture = self.picture
        bundle = self.widget._repr_mimebundle_(**options) or {}
        return {
            **bundle,
            PLOTLY: figure_data(picture.figure),
            "text/plain": picture.text,
        }


def slider(kind: type, value: Any, low: Any, high: Any, label: str, **more: Any) -> Any:
    """Return a slider with a label that is wide enough to read."""
    return kind(
        value=value,
        min=low,
        max=high,
        description=label,
        style={"description_width": "14em"},
        layout={"width": "36em"},
        **more,
    )
