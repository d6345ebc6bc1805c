"""Exported models: a complete folder that other programs ask in the template of the training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import plain_transformers
import pytest
import yaml
from hub_server import serve_hub, use_hub
from small import VIDEO
from transformers.video_utils import VideoMetadata

from p2r.cli import run_cli
from p2r.data import encode_prompts, load_processor
from p2r.errors import UserError
from p2r.export.model import chat_template_of, export_model
from p2r.records import Question
from p2r.runs import model_fingerprint, open_run
from p2r.template import INSTRUCTIONS, build_messages
from p2r.template.chat_template import SWITCH, ask_in_style
from p2r.video import sample_frames

pytest_plugins = ["small_fixtures"]
PROMPT_FILE = """\
{{ problem }}
{% for option in options %}
- {{ option }}
{% endfor %}
{{ answer_form }} Look at the {{ media }} ({{ problem_type }}).
"""
QUESTIONS = [
    Question(
        id="options",
        problem="What <|im_end|> moves?\nSay it.",
        options=["A. a cube", "B. two\nlines", "C. C.) both"],
        problem_type="multiple choice",
        path="v.mp4",
    ),
    Question(id="number", problem="How many? ", problem_type="numerical", path="v.mp4"),
    Question(id="image", problem="Read.", problem_type="OCR", data_type="image", path="i.png"),
    Question(id="text", problem="A. Lincoln did what?", problem_type="free-form"),
]


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory) -> Path:
    """A run with a finished PA-GRPO training with adapters, and one evaluation of its model."""
    folder = tmp_path_factory.mktemp("runs") / "lab"
    opened = open_run(folder, "tiny1", [f"models.base={model_folder}", "video.train_frames=6"])
    stage = folder / "pa_grpo"
    stage.mkdir()
    os.symlink(model_folder, stage / "model")
    (stage / "adapters").mkdir()
    (stage / "adapters" / "adapter_model.safetensors").write_bytes(b"weights")
    (stage / "adapters" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(model_folder), "r": 4})
    )
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 40}
    for name, weights in (("pa_grpo", model_fingerprint(stage / "model")), ("older", "0" * 12)):
        made = {"weights": weights, "judge": "oracle", "frames": {"max_frames": 8, "max_pixels": 9}}
        found = {"metrics": {"accuracy": interval, "mismatch": {**interval, "n": 0}}, "made": made}
        opened.path("eval", f"{name}.json").write_text(json.dumps(found))
    return folder


@pytest.fixture(scope="module")
def exported(run) -> Path:
    return export_model(run / "pa_grpo", run.parent / "exported")


# ---- the folder


def test_the_folder_is_complete(run, exported):
    names = {file.name for file in exported.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "README.md"} <= names
    assert {"chat_template.jinja", "processor_config.json", "process_aware_parser.py"} <= names
    assert (exported / "model.safetensors").read_bytes() == (
        run / "pa_grpo" / "model" / "model.safetensors"
    ).read_bytes()
    processor = load_processor(exported)
    video = processor.video_processor
    assert video.size["longest_edge"] == 3136 and video.max_frames == 6
    config = json.loads((exported / "generation_config.json").read_text())
    assert config["max_new_tokens"] == 160 and config["temperature"] == 0.01
    assert not list(run.parent.glob(".exported*"))


def test_the_card_has_results_with_intervals_the_judge_and_no_path(run, exported):
    card = (exported / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "video-text-to-text" and "base_model" not in head
    (row,) = [line for line in card.splitlines() if line.startswith("| the questions of the run")]
    assert "accuracy" in row and "50.0 [25.0–75.0]" in row and "| 40 | oracle |" in row
    assert "Positions:" in card and "style `brief`" in card and "max_frames" not in card
    assert str(run.parent) not in card


def test_the_folder_is_pushed_to_a_hub(run, exported, tmp_path, capsys, monkeypatch):
    """The real client uploads to a hub on this machine."""
    command = ["export", "model", str(run / "pa_grpo"), "--push", "me/mine", "--out"]
    with serve_hub("me/mine", {}) as hub:
        use_hub(monkeypatch, hub)
        assert run_cli([*command, str(tmp_path / "one")]) == 0
        assert f"127.0.0.1:{hub.server_port}/me/mine" in capsys.readouterr().out
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        assert run_cli([*command, str(tmp_path / "two")]) == 2
        said = capsys.readouterr().err
    assert "the hub refused 'me/mine'" in said and "hf_other" not in said
    assert [made["visibility"] for made in hub.created] == ["private"]
    sent = {file.name: file.read_bytes() for file in exported.iterdir()}
    assert hub.uploaded == sent, "every file of the folder, and no other"


def test_adapters_alone(run, tmp_path, capsys):
    out = tmp_path / "adapters"
    command = ["export", "model", str(run / "pa_grpo"), "--out", str(out), "--adapters", "--json"]
    assert run_cli(command) == 0
    written = json.loads(capsys.readouterr().out)
    assert "adapter_model.safetensors" in written["files"] and written["url"] is None
    assert "model.safetensors" not in written["files"]
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "lab-sft"
    assert "LoRA adapters" in (out / "README.md").read_text()


def test_what_cannot_be_exported(run, exported, tmp_path, model_folder):
    with pytest.raises(UserError, match="is not empty"):
        export_model(run / "pa_grpo", exported)
    for folder in (run, run / "sft", tmp_path):
        with pytest.raises(UserError, match="no finished training"):
            export_model(folder, tmp_path / "out")
    (tmp_path / "stage").mkdir()
    os.symlink(model_folder, tmp_path / "stage" / "model")
    with pytest.raises(UserError, match="not a run"):
        export_model(tmp_path / "stage", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- the template


def render(processor, template, messages, **settings) -> str:
    return processor.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=True, **settings
    )


@pytest.mark.parametrize("style", [*INSTRUCTIONS, PROMPT_FILE])
def test_a_plain_question_is_asked_as_in_training(style, model_folder):
    processor = load_processor(model_folder)
    own = processor.chat_template
    template = ask_in_style(own, style)
    assert ask_in_style(ask_in_style(own, "full"), style) == template
    first = {"role": "system", "content": "Be short."}
    for question in QUESTIONS:
        asked = build_messages(question, style)
        media = [part for part in asked[0]["content"] if part["type"] != "text"]
        text = {"type": "text", "text": "\n".join([question.problem, *question.options])}
        plain = [first, {"role": "user", "content": [text, *media]}]
        kind = {"problem_type": question.problem_type} if question.id in ("number", "image") else {}
        expected = render(processor, own, [first, *asked])
        assert render(processor, template, plain, **kind) == expected
        assert render(processor, template, plain, **{SWITCH: False}) == render(
            processor, own, plain
        )
        if style in INSTRUCTIONS:  # a prompt of p2r is not asked twice
            assert render(processor, template, [first, *asked]) == expected


def test_p2r_asks_an_exported_model_with_its_own_prompt_only(exported, model_folder):
    processors = [load_processor(folder) for folder in (exported, model_folder)]
    for style in ("direct", PROMPT_FILE):
        ids = [encode_prompts(p, QUESTIONS[-1:], [None], style)["input_ids"] for p in processors]
        assert ids[0].equal(ids[1])


def test_the_processor_takes_frames_that_vllm_has_sampled(exported):
    """The metadata then describes the whole video, not the frames."""
    whole = VideoMetadata(total_num_frames=64, fps=8.0, frames_indices=list(range(0, 64, 11)))
    frames = np.zeros((6, 64, 96, 3), np.uint8)
    text = "<|vision_start|><|video_pad|><|vision_end|>"
    found = load_processor(exported)(text=[text], videos=[frames], video_metadata=[whole])
    assert found["video_grid_thw"].tolist() == [[3, 6, 8]]  # 42 × 56 pixels, patches of 7


def test_an_unknown_problem_type_is_refused(exported):
    processor = load_processor(exported)
    with pytest.raises(Exception, match="problem_type must be one of multiple choice"):
        render(
            processor, None, [{"role": "user", "content": "How?"}], problem_type="multiple-choice"
        )


def test_serve_asks_a_stage_and_an_exported_model_in_the_template(run, exported, tmp_path):
    written = chat_template_of(run / "pa_grpo", tmp_path)
    assert written.read_text() == (exported / "chat_template.jinja").read_text()
    assert chat_template_of(exported, tmp_path) == exported / "chat_template.jinja"
    assert chat_template_of("playground/teacher", tmp_path) is None


@pytest.mark.slow
def test_transformers_alone_builds_the_prompt_of_p2r(exported, media):
    """The ids of prompts are those of p2r, with a video and without; p2r is not imported."""
    clip = media / "long.mp4"
    done = subprocess.run(
        [sys.executable, "-P", plain_transformers.__file__, str(exported), str(clip)],
        capture_output=True,
        text=True,
        cwd=exported,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["p2r"] and found["written"] == 3

    processor = load_processor(exported)
    problem, *options = plain_transformers.CHOICE.split("\n")
    choice = Question(id="c", problem=problem, options=options, problem_type="multiple choice")
    ask = {"id": "n", "problem": "How many?", "problem_type": "numerical", "path": clip.name}
    # transformers chooses other frames of the 8, but as many and at the same rate.
    frames = sample_frames(clip, **{**VIDEO, "max_frames": 6})
    ours = encode_prompts(processor, [Question(**ask)], [frames], "brief")
    assert found["video"] == ours["input_ids"][0].tolist()
    assert (
        found["text"]
        == encode_prompts(processor, [choice], [None], "brief")["input_ids"][0].tolist()
    )
    assert "Observe" not in processor.decode(found["off"])
