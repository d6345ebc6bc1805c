"""The figures of the notebooks and the case browser: Plotly figures, and pictures of frames.

Functions take plain data and return a figure.
"""

from p2r.plots.metrics import (
    COMPARISONS,
    CURVES,
    compare_stages,
    curves,
    lost_metric,
    running_mean,
    step_time,
    training,
)
from p2r.plots.pictures import contact_sheet
from p2r.plots.scores import results, study, study_curves
from p2r.plots.style import COLOURS, DIVERGING, NotebookFigure, bars, drawable, lines
from p2r.plots.traces import (
    DATA_FIGURES,
    funnel,
    lengths,
    mix,
    perception_by_answer,
    segments,
    token_credit,
)

__all__ = [
    "COLOURS",
    "COMPARISONS",
    "CURVES",
    "DATA_FIGURES",
    "DIVERGING",
    "NotebookFigure",
    "bars",
    "compare_stages",
    "contact_sheet",
    "curves",
    "drawable",
    "funnel",
    "lengths",
    "lines",
    "lost_metric",
    "mix",
    "perception_by_answer",
    "results",
    "running_mean",
    "segments",
    "step_time",
    "study",
    "study_curves",
    "token_credit",
    "training",
]
