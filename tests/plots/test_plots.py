"""The figures: what has no value is not drawn."""

from p2r import plots


def test_unknown_metrics_have_no_bar():
    known, unknown = (
        {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 4},
        {"mean": None, "low": None, "high": None, "n": 0},
    )
    (bar,) = plots.results({"sft": {"accuracy": known, "mismatch": unknown}}, "").data
    assert list(bar.x) == ["accuracy"] and bar.error_y.array == (25.0,)


def test_training_leaves_gaps_where_a_metric_is_unknown():
    rows = [{"step": 1, "kl": 0.1}, {"step": 2, "kl": float("nan")}, {"step": 3}]
    (line,) = plots.training(rows, {"kl": "kl"}, "").data
    assert list(line.y) == [0.1, None, None]


def test_unknown_has_its_own_row_only_if_it_occurs():
    cells = {"right": 2, "wrong": 1, "unknown": 0}
    table = {"sufficient": cells, "insufficient": cells, "unknown": dict.fromkeys(cells, 0)}
    (heat,) = plots.perception_by_answer(table, "").data
    assert len(heat.y) == 2 and len(heat.x) == 2
    table["unknown"] = cells
    (heat,) = plots.perception_by_answer(table, "").data
    assert len(heat.y) == 3


def test_names_are_escaped_once_and_keep_their_quotes():
    name, shown = 'a "b" <b>c</b>', 'a "b" &lt;b&gt;c&lt;/b&gt;'
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    figure = plots.results({name: {name: interval}}, "")
    assert figure.data[0].name == shown and figure.data[0].x == (shown,)
    assert plots.lines([1], {name: [1]}, "", "").data[0].name == shown
