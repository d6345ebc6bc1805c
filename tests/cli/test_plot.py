"""`p2r plot`: curves of several stages in one figure, from stored metrics."""

from __future__ import annotations

import json

import pytest
from case_records import make_case

from p2r.cli import run_cli
from p2r.plots import running_mean


def write_stage(folder, credit, rewards=("perception", "reasoning", "length"), steps=4):
    folder.mkdir(parents=True)
    settings = {"rl": {"credit": credit, "rewards": list(rewards)}}
    (folder / "made.json").write_text(json.dumps(settings))
    rows = [
        {
            "step": step,
            "joint/collapse": 0.1 * step,
            "reasoning/collapse": 0.2 * step,
            "perception/accuracy": 0.5,
            "reasoning/accuracy": 0.25,
        }
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.fixture
def stages(tmp_path):
    return [
        write_stage(tmp_path / "x" / "grpo", "outcome"),
        write_stage(tmp_path / "x" / "pa_grpo", "process"),
    ]


def draw(*arguments):
    assert run_cli(["plot", *arguments]) == 0


def test_both_methods_in_one_figure_each_with_its_own_lost_groups(stages, tmp_path):
    out = tmp_path / "figures" / "collapse.json"
    draw("collapse", *stages, "--out", str(out))
    lines = {line["name"]: line["y"] for line in json.loads(out.read_text())["data"]}
    assert lines["SFT + GRPO"] == pytest.approx([0.2, 0.4, 0.6, 0.8]), "of the reasoning reward"
    assert lines["SFT + PA-GRPO"] == pytest.approx([0.1, 0.2, 0.3, 0.4]), "of both rewards"


def test_two_lines_per_stage_and_equal_names_are_told_apart(stages, tmp_path):
    other = write_stage(tmp_path / "y" / "grpo", "outcome")
    out = tmp_path / "accuracy.html"
    draw("accuracy", *stages, other, "--out", str(out), "--window", "2")
    text = out.read_text()
    for name in ("x, SFT + GRPO: perception", "y, SFT + GRPO: reasoning", "mean over 2 steps"):
        assert name in text


def test_rewards_by_part_and_process(stages, tmp_path):
    out = tmp_path / "reward.json"
    for name, key in (("reward", "rewards/{}/mean"), ("length-reward", "{}/length_bonus")):
        row = {"step": 9} | {key.format(process): 0.7 for process in ("perception", "reasoning")}
        with (tmp_path / "x" / "pa_grpo" / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        draw(name, stages[1], "--out", str(out))
        drawn = json.loads(out.read_text())["data"]
        assert [line["name"].rpartition(" ")[2] for line in drawn] == ["perception", "reasoning"]
        assert all(line["y"][-1] == 0.7 for line in drawn)


def test_figures_of_a_data_set(tmp_path):
    """The file has traces: two about videos, one about an image."""
    types = ("multiple choice", "multiple choice", "numerical")
    cases = [make_case(n, question_problem_type=kind) for n, kind in enumerate(types)]
    cases[2].question.data_type, cases[2].question.options = "image", []
    for case in cases:
        case.trace.think, case.trace.answer = "so " * 30, "A"
    file, out = tmp_path / "traces.jsonl", tmp_path / "figure.json"
    file.write_text("".join(case.model_dump_json() + "\n" for case in cases))
    draw("mix", str(file), "--out", str(out))
    image, video = json.loads(out.read_text())["data"]
    assert (image["name"], dict(zip(image["x"], image["y"], strict=True))["numerical"]) == (
        "image",
        1,
    )
    assert dict(zip(video["x"], video["y"], strict=True))["multiple choice"] == 2
    draw("segments", str(file), "--out", str(out))
    perception, reasoning = json.loads(out.read_text())["data"]
    assert perception["y"][0] == 3 and reasoning["y"][1] == 3, "2 and 31 words, bins of 20"


def test_the_results_of_a_demo(tmp_path):
    share = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    row = {"accuracy": share, "faithful": share, "sentences told": share | {"unit": "sentences"}}
    (tmp_path / "results.json").write_text(json.dumps({"sft": row, "pa_grpo": row}))
    out = tmp_path / "figure.json"
    draw("results", str(tmp_path), "--out", str(out))
    first, second = json.loads(out.read_text())["data"]
    assert (first["name"], second["name"]) == ("SFT", "SFT + PA-GRPO")
    assert first["x"] == ["accuracy", "faithful"] and second["y"] == [50, 50]

    (tmp_path / "results.json").write_text(json.dumps({"<a href='x'>own</a>": row}))
    draw("results", str(tmp_path), "--out", str(out))
    assert json.loads(out.read_text())["data"][0]["name"].startswith("&lt;a")
    for text in ("[]", '{"sft": {"accuracy": 1}}', "{"):
        (tmp_path / "results.json").write_text(text)
        assert run_cli(["plot", "results", str(tmp_path), "--out", str(out)]) == 2


def test_errors_say_what_to_give(stages, tmp_path, capsys):
    for arguments, said in (
        (["curves", stages[0]], "no figure 'curves': use one of collapse, accuracy"),
        (["collapse", str(tmp_path)], "has no metrics.jsonl"),
        (["length", stages[0]], "no stage logged perception/tokens"),
        (["collapse", stages[0], stages[0]], "give each stage once"),
        (["mix", stages[0], stages[1]], "shows one data set"),
        (["results", stages[0], stages[1]], "shows one run"),
        (["results", stages[0]], "results.json is missing: p2r demo --run"),
    ):
        assert run_cli(["plot", *arguments, "--out", str(tmp_path / "f.html")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "f.html").exists()


def test_a_picture_needs_kaleido(stages, tmp_path, capsys, monkeypatch):
    def write_image(figure, out):
        raise RuntimeError("Image export requires the Kaleido package")

    monkeypatch.setattr("plotly.graph_objects.Figure.write_image", write_image)
    for name, said in (
        ("f.png", "need kaleido and Chrome (pip install kaleido"),
        ("f.svg", "give a .html or .json file"),
        ("f.doc", "must end in .html, .json, .png"),
    ):
        assert run_cli(["plot", "collapse", *stages, "--out", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_the_running_mean_leaves_out_unknown_steps():
    assert running_mean([1.0, None, 3.0, 5.0], 2) == [1.0, 1.0, 3.0, 4.0]
    assert running_mean([None, 2.0], 1) == [None, 2.0]
