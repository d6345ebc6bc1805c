"""The command line: help with examples, one-line errors, exit codes, questions about a clip."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import forks
import pytest
from measures import shared_data
from PIL import Image
from scripted import ScriptedEngine

from p2r.cli import main, run_cli
from p2r.runs import open_run

pytest_plugins = ["small_fixtures"]
VERBS = ("generate", "filter", "sft", "rl", "eval", "app", "ask", "demo", "doctor", "study")
OCR = {"path": "a.mp4", "problem": "?", "problem_type": "OCR", "solution": "<answer>x</answer>"}


def p2r(*arguments: str, **settings: str) -> subprocess.CompletedProcess:
    """Run the command line in a subprocess."""
    command = [sys.executable, "-m", "p2r", *arguments]
    environment = {**os.environ, **settings}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def error_of(capsys, *arguments: str) -> str:
    """Return the one line of an error that ends with exit code 2."""
    assert run_cli(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ") and not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.fixture
def question_file(tmp_path, questions) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(q.model_dump_json() + "\n" for q in questions))
    return file


def generate_arguments(run: Path, questions: Path, media: Path, model: Path) -> list[str]:
    return [
        *("generate", "--run", str(run), "--questions", str(questions), "--data-root", str(media)),
        *("--set", f"models.teacher={model}", "--set", "generate.max_tokens=8"),
    ]


# ---- help


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(verb, capsys):
    assert run_cli([verb, "--help"]) == 0
    assert f"Example: p2r {verb} " in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    """The help and the completion of the shell must be fast."""
    heavy = "{'torch', 'transformers', 'duckdb', 'pyarrow', 'numpy', 'pydantic', 'yaml'}"
    code = (
        "import sys; from p2r.cli import complete, run_cli; run_cli(['--help']); "
        "complete.complete_recipes('t'); complete.complete_runs(''); "
        f"sys.exit(bool({heavy} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and all(verb in done.stdout for verb in VERBS)


def test_no_verb_shows_the_help(capsys):
    for verbs, shown in (([], "generate"), (["data"], "export")):
        assert run_cli(verbs) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("Usage: p2r") and any(shown in line for line in lines[1:])


def test_version(capsys):
    assert run_cli(["--version"]) == 0
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out.strip() == f"p2r {project['version']}"


# ---- errors: they name the fault, its place and the remedy


def test_misspelt_verb_and_missing_option(capsys):
    assert "No such command 'train'" in error_of(capsys, "train")
    assert "--run" in error_of(capsys, "filter")


@pytest.mark.parametrize(
    "verb", [("filter", "--run"), ("sft", "--run"), ("study", "--run"), ("app",)]
)
def test_missing_run_folder(verb, capsys, tmp_path):
    message = error_of(capsys, *verb, str(tmp_path / "none"))
    assert "none does not exist" in message


def test_recipe_with_a_typo(capsys, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nmodels: {base: b, teacher: t}\nsft: {max_stepz: 3}\n")
    message = error_of(capsys, "generate", "--run", str(tmp_path / "x"), "--recipe", str(recipe))
    assert "mine.yaml" in message and "'sft.max_stepz'" in message and "max_steps" in message


@pytest.mark.parametrize(
    ("override", "said"),
    [("sft.stepz=1", "unknown key"), ("sft", "section.key=value"), ("rl.steps=x", "rl.steps")],
)
def test_bad_override(capsys, tmp_path, override, said):
    assert said in error_of(capsys, "demo", "--run", str(tmp_path / "x"), "--set", override)


def test_changed_recipe_names_the_keys(capsys, tmp_path, question_file, media, model_folder):
    arguments = generate_arguments(tmp_path / "x", question_file, media, model_folder)
    assert run_cli(arguments) == 0
    message = error_of(capsys, *arguments, "--set", "video.train_frames=4")
    assert "video.train_frames was 8, now 4" in message


def test_bad_question_files(capsys, tmp_path, model_folder):
    run = str(tmp_path / "x")
    missing = error_of(capsys, "generate", "--run", run, "--questions", str(tmp_path / "no.json"))
    assert "no such file" in missing and "no.json" in missing
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty.jsonl" in error_of(
        capsys, "generate", "--run", run, "--questions", str(tmp_path / "empty.jsonl")
    )
    (tmp_path / "prose.json").write_text("Once upon a time")
    assert "prose.json" in error_of(
        capsys, "generate", "--run", run, "--questions", str(tmp_path / "prose.json")
    )


@pytest.mark.slow
def test_bad_records_and_media_are_reported_and_the_others_are_used(tmp_path, media, model_folder):
    file = tmp_path / "q.jsonl"
    records = [
        {**OCR, "path": "long.mp4"},
        {**OCR, "path": "long.mp4", "problem_type": "riddle"},
        {"problem": 3},
        {**OCR, "path": "broken.mp4"},
        {**OCR, "path": "none.mp4"},
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = p2r(*generate_arguments(tmp_path / "x", file, media, model_folder))
    assert done.returncode == 0, done.stderr
    assert "line 2" in done.stderr and "riddle" in done.stderr and "line 3" in done.stderr
    assert "2 could not be answered: reasons in" in done.stderr
    errors = (tmp_path / "x" / "generate.errors.jsonl").read_text()
    assert "broken.mp4" in errors and "none.mp4" in errors
    assert (tmp_path / "x" / "generate.jsonl").read_text().count("\n") == 1


def test_folder_without_a_model(capsys, tmp_path, question_file, media):
    arguments = generate_arguments(tmp_path / "x", question_file, media, tmp_path)
    assert str(tmp_path) in error_of(capsys, *arguments)


def test_a_missing_earlier_stage_is_named(capsys, tmp_path, question_file):
    run = str(tmp_path / "x")
    recipe = tmp_path / "none.yaml"
    recipe.write_text("name: none\nmodels: {base: b, teacher: t}\n")
    message = error_of(capsys, "generate", "--run", run, "--recipe", str(recipe))
    assert "pass --questions FILE" in message
    assert "p2r generate" in error_of(capsys, "filter", "--run", run)
    assert "p2r filter" in error_of(capsys, "sft", "--run", run)
    assert "p2r sft" in error_of(capsys, "rl", "--run", run)


@pytest.mark.parametrize("verb", [["rl"], ["eval", "--model", "sft"], ["app"]])
def test_a_misspelt_run_is_not_created(capsys, tmp_path, verb):
    run = tmp_path / "misspelt"
    arguments = [*verb, str(run)] if verb == ["app"] else [*verb, "--run", str(run)]
    assert "does not exist" in error_of(capsys, *arguments)
    assert not run.exists()


def test_a_file_or_another_folder_in_place_of_a_run_is_named(capsys, tmp_path):
    file, empty, still = tmp_path / "mmvu.json", tmp_path / "empty", tmp_path / "still.png"
    file.write_text("[]")
    empty.mkdir()
    still.write_bytes(b"\x89PNG\xff")
    said = "mmvu.json is a file: pass "
    assert said in error_of(capsys, "app", str(file), "--dry-run")
    assert said in error_of(capsys, "filter", "--run", str(file))
    assert "empty is not a run" in error_of(capsys, "app", str(empty), "--dry-run")
    message = error_of(capsys, "app", str(empty), "--import-labels", str(still))
    assert "still.png is not an export of Label Studio" in message


@pytest.mark.parametrize(
    ("stage", "command"),
    [("sft", "p2r sft"), ("grpo", "p2r rl --arm grpo"), ("papo", "p2r rl --credit outcome --set")],
)
def test_a_stage_that_is_not_trained_is_named(capsys, tmp_path, question_file, stage, command):
    run = ["--run", str(tmp_path / "x"), "--questions", str(question_file)]
    message = error_of(capsys, "eval", "run", *run, "--model", stage)
    assert f"stage {stage!r} of run" in message and f"train it with `{command}" in message
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("verb", "setting"), [("rl", "rl.steps=1"), ("sft", "sft.max_steps=1")])
def test_a_dry_run_refuses_the_settings_that_the_run_refuses(capsys, tmp_path, verb, setting):
    run = open_run(tmp_path / "x", "tiny")
    for stage in ("sft", "pa_grpo"):
        run.path(stage, "made.json").write_text("{}")
    message = error_of(capsys, verb, "--run", str(run.folder), "--dry-run", "--set", setting)
    assert f"{verb} of run" in message and "was made with other settings" in message


def test_a_run_has_only_one_data_root(capsys, tmp_path, question_file, media, model_folder):
    assert run_cli(generate_arguments(tmp_path / "x", question_file, media, model_folder)) == 0
    elsewhere = generate_arguments(tmp_path / "x", question_file, tmp_path, model_folder)
    assert str(media) in error_of(capsys, *elsewhere)


def test_unknown_credit_scheme(capsys, tmp_path):
    message = error_of(capsys, "rl", "--run", str(tmp_path / "x"), "--credit", "karma")
    assert "karma" in message and "process" in message


def test_debug_shows_the_traceback(tmp_path):
    done = p2r("filter", "--run", str(tmp_path / "none"), P2R_DEBUG="1")
    assert "Traceback" in done.stderr and "UserError" in done.stderr


def run_main(arguments: list[str]) -> None:
    """Run the command line in a subprocess that does not ignore Ctrl-C, as jobs of a shell do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["p2r", *arguments]
    main()


@pytest.mark.slow
def test_ctrl_c_gives_130_and_the_same_command_continues(tmp_path, media, model_folder):
    file = tmp_path / "q.jsonl"
    records = [{**OCR, "path": "long.mp4", "problem_id": n} for n in range(300)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    arguments = generate_arguments(tmp_path / "x", file, media, model_folder)
    log = tmp_path / "log"
    child = forks.start(run_main, arguments, log=log)
    journal = tmp_path / "x" / "generate.jsonl"
    end = time.monotonic() + 600
    while child.exitcode is None and not (journal.is_file() and journal.stat().st_size):
        assert time.monotonic() < end, "generate writes no response"
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    child.join(300)
    errors = log.read_text()
    assert child.exitcode == 130, errors
    assert "the same command again to continue" in errors and "Traceback" not in errors


# ---- doctor


def test_doctor_reports_the_stack(capsys):
    assert run_cli(["doctor"]) in (0, 1)
    report = capsys.readouterr().out
    for part in ("python", "torch", "torchvision", "decoder", "transformers"):
        assert part in report


def test_doctor_scores_reference_answers(capsys, tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(json.dumps({**OCR, "problem_type": "numerical", "solution": "5.0"}) + "\n")
    bad.write_text(json.dumps({**OCR, "problem_type": "numerical", "solution": "many"}) + "\n")
    assert run_cli(["doctor", "--rewards", str(good)]) == 0
    assert run_cli(["doctor", "--rewards", str(bad)]) == 1
    assert "'many'" in capsys.readouterr().out
    assert "no such file" in error_of(capsys, "doctor", "--rewards", str(tmp_path / "no"))


# ---- ask


@pytest.mark.parametrize("name", ["made_empty.mp4", "made_not_a_video.mp4", "no_such_file.mp4"])
def test_ask_about_a_file_that_is_not_a_video(capsys, model_folder, name):
    clip = shared_data("videos") / name
    message = error_of(capsys, "ask", str(clip), "What happens?", "--model", str(model_folder))
    assert name in message


def test_ask_with_a_bad_type(capsys, media, model_folder):
    clip = str(media / "long.mp4")
    asked = ("ask", clip, "What?", "--model", str(model_folder))
    assert "riddle" in error_of(capsys, *asked, "--type", "riddle")
    assert "--option" in error_of(capsys, *asked, "--type", "multiple choice")


def test_ask_streams_an_answer(capsys, media, model_folder, tmp_path):
    shutil.copy(media / "long.mp4", tmp_path)
    (tmp_path / "broken.mp4").write_text("This is text.")
    for clip in (media / "still.png", tmp_path):  # a picture, a folder of videos
        asked = ["ask", str(clip), "What?", "--model", str(model_folder)]
        assert run_cli([*asked, "--set", "eval.max_tokens=8"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(("still.png: ", f"cannot read {tmp_path / 'broken.mp4'}: "))
    assert "\nlong.mp4: " in shown


def test_ask_writes_out_the_control_characters_of_an_answer(capsys, monkeypatch, tmp_path):
    """A model and a file name cannot steer the terminal, also not with one letter at a time."""
    engine = ScriptedEngine(lambda question: "<answer>a\x1b[2J\r\nb\u202e</answer>")
    monkeypatch.setattr("p2r.engines.ask.load_to_ask", lambda recipe, model: engine)
    picture = tmp_path / "odd\x1b.png"
    Image.new("RGB", (32, 32)).save(picture)
    assert run_cli(["ask", str(picture), "What?"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("odd[U+001B].png: ") and "a[U+001B][2J\nb[U+202E]" in printed
    assert "\x1b" not in printed and "\u202e" not in printed


def test_ask_about_a_real_clip(capsys, model_folder):
    clip = shared_data("videos") / "clevrer_12176.mp4"
    asked = ["ask", str(clip), "How many balls?", "--type", "numerical", "--model"]
    assert run_cli([*asked, str(model_folder), "--set", "eval.max_tokens=8"]) == 0
    assert "8 frames" in (shown := capsys.readouterr().out) and "decord" in shown


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", "x y"])
def test_a_result_name_cannot_leave_the_run(capsys, tmp_path, name):
    run = tmp_path / "x"
    arguments = ("--run", str(run), "--model", "m", "--name", name)
    assert "--name" in error_of(capsys, "eval", *arguments)
    assert not run.exists()


def test_bad_port(capsys, tmp_path):
    assert "65535" in error_of(capsys, "app", str(tmp_path), "--port", "99999")
