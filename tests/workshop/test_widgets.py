"""Each widget without a browser: a state gives the data of its figure and a sentence."""

import json

import ipywidgets
import pytest

from p2r.records import Question
from p2r.runs import open_run
from p2r.template import render
from p2r.workshop import widgets
from p2r.workshop.widgets import pictures
from p2r.workshop.widgets.panel import PLOTLY

SIGN = Question(id="q", problem="What does the sign say?", problem_type="OCR", answer="STOP")
PANELS = {
    "frame_budget": widgets.frame_budget,
    "group_credit": widgets.group_credit,
    "judge_noise": widgets.judge_noise,
    "length_range": lambda: widgets.length_range([10, 30, 90], [True, True, False]),
    "trace_editor": lambda: widgets.trace_editor(SIGN),
}


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_has_labelled_controls_a_sentence_and_a_static_figure(name):
    panel = PANELS[name]()
    assert all(control.description for control in panel.controls.values())
    assert 'aria-live="polite"' in panel.sentence.value
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == panel.picture.text and bundle[PLOTLY]["data"]
    assert panel.view.outputs[0]["data"][PLOTLY]["data"] == bundle[PLOTLY]["data"]
    json.dumps(bundle)


def test_a_control_changes_the_figure():
    panel = widgets.frame_budget()
    before = panel.view.outputs
    panel.controls["frames"].value = 64
    assert panel.view.outputs != before and "64 frames" in panel.sentence.value
    assert panel.state == {"frames": 64, "blocks": 128}


def test_more_frames_see_more_and_cost_more():
    panel = widgets.frame_budget(
        duration=10, size=(280, 280), events=[("flash", 4.9, 5.1)], details=[("word", 10)]
    )
    panel.controls["frames"].value, panel.controls["blocks"].value = 4, 100
    few = panel.picture
    assert few.text == (
        "4 frames of 280 × 280 pixels cost 200 tokens. Missed between frames: flash. "
        "Too small to read: nothing; readable: word."
    )
    assert [trace.text for trace in few.figure.data[1:]] == [("", "MISSED")]
    panel.controls["frames"].value, panel.controls["blocks"].value = 6, 16
    panel.controls["frames"].value = 64
    assert "Missed between frames: flash" not in panel.picture.text
    assert "Too small to read: word" in panel.picture.text


def test_credit_schemes_beside_each_other():
    panel = widgets.group_credit()
    (heat,) = panel.picture.figure.data
    rows = dict(zip(heat.y, heat.z, strict=True))
    assert list(heat.x)[:2] == ["process<br>observation", "process<br>rest"]
    lucky = rows["rollout 3: 0, 1"]
    outcome = list(heat.x).index("outcome<br>observation")
    assert lucky[0] < 0 < lucky[1] and lucky[outcome] == lucky[outcome + 1] > 0
    assert "opposite directions for rollouts: 2, 3." in panel.picture.text
    for control in panel.controls.values():
        control.value = 1.0
    assert "Collapsed: perception and reasoning." in panel.picture.text


def test_a_judge_that_errs():
    perfect, coin = (pictures.judge_noise(error, 0.5, 8) for error in (0.0, 0.5))
    assert "correlate with the truth at 1.00" in perfect.text and "1 % of groups" in perfect.text
    assert "correlate with the truth at 0.00" in coin.text
    curve = perfect.figure.data[0].y
    assert curve[0] == 1.0 and curve[-1] == 0.0 and list(curve) == sorted(curve, reverse=True)
    assert {trace.line.dash for trace in perfect.figure.data[::2]} == {"solid", "dash"}


def test_only_right_responses_of_the_right_length_earn_the_bonus():
    panel = widgets.length_range([10, 20, 80, 81, 40], [True, True, True, True, False])
    assert panel.picture.text.startswith("2 of 5 responses earn the bonus; 2 right ones")
    panel.controls["length_range"].value = (0, 90)
    assert panel.picture.text.startswith("4 of 5")
    assert [sum(bar.y) for bar in panel.picture.figure.data] == [4, 0, 1]


def test_the_trace_editor_follows_the_text():
    panel = widgets.trace_editor(SIGN)
    box = panel.controls["response"]
    assert isinstance(box, ipywidgets.Textarea) and "Sufficient: no." in panel.picture.text
    box.value = render("The sign says STOP.", "So it says <i>STOP</i>.", "STOP")
    assert "Sufficient: yes." in panel.picture.text
    strip = panel.extra.value
    assert strip.count("‖") == 1 and "<i>" not in strip and "dashed" in strip.partition("‖")[2]
    assert "dashed" not in strip.partition("‖")[0]
    box.value = "The sign says STOP."
    assert "Format: perception broken, reasoning broken" in panel.picture.text
    assert "observation missing" in str(panel.picture.figure.data[0].cells["values"])


def test_the_player_shows_the_frames_of_a_clip(tmp_path):
    from small import write_video

    write_video(tmp_path / "clip.mp4", 8, 28, 28, 4, seed=0)
    panel = widgets.player(tmp_path / "clip.mp4", max_frames=2, max_pixels=784, factor=14)
    assert panel.picture.text.startswith("The model sees 2 frames, at 0.00, 1.75 s.")
    assert "<video controls" in panel.extra.value
    assert panel.picture.figure.data[0].source.startswith("data:image/png;base64,")
    panel.controls["frames"].value = 4
    assert "4 frames" in panel.sentence.value


def test_live_curves_move_and_stop(capsys):
    curves = widgets.LiveCurves({"reward": "r"}, "Training")
    with curves:
        for step in curves.steps(5):
            curves.add({"step": step, "r": step / 10})
            if step == 3:
                curves.button.click()
    assert len(curves.rows) == 3 and curves.stopped
    assert list(curves.figure.data[0].y) == [0.1, 0.2, 0.3]
    assert curves.describe() == "step 3: reward 0.3"
    assert "stopped before step 4" in capsys.readouterr().out
    with widgets.LiveCurves({"reward": "r"}) as other:
        raise KeyboardInterrupt
    assert "stopped by hand; no step yet" in capsys.readouterr().out
    assert other.button.disabled


def test_curves_follow_the_metrics_of_a_stage(tmp_path):
    run = open_run(tmp_path / "run", "tiny1")
    file = run.path("sft", "metrics.jsonl")
    file.write_text('{"step": 1, "loss": 2.0}\n')
    with widgets.watch(run, "sft", {"loss": "loss"}) as curves:
        assert [row["step"] for row in curves.rows] == [1]
        with file.open("a") as lines:
            lines.write('{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    assert [row["step"] for row in curves.rows] == [1, 2]
    assert list(curves.figure.data[0].y) == [2.0, None]
