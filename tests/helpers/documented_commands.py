"""Runs the commands of a documentation page in a folder that has the files they name.

Every `p2r` command runs in this Python process, with `--dry-run` where the verb has it; the other
verbs do their work on small files. `accelerate launch` gives its environment to the command. `make`
runs with `--dry-run`, and the p2r commands of its recipe run like the others. Options of scripts
and extras of `pip install` are looked up. Claude must be a local server (`judge_fixtures`).
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main
import yaml
from benchmark_examples import write_benchmark
from case_records import make_case
from small import write_video

from p2r.cases.store import write_cases
from p2r.cli import app, run_cli
from p2r.data import resolve_model
from p2r.datasets.public import known_sets
from p2r.pipeline.funnel import funnel
from p2r.records import Case
from p2r.runs import open_run
from p2r.runs.names import training_command

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=")  # NAME=VALUE before a command
PROGRAMS = ("p2r", "make", "accelerate", "python", "pip", "conda", "bash", "tensorboard", "export")
# What a reader replaces in a command.
PLACEHOLDERS = {
    "MODEL": "playground/base",
    "NAME": "mmvu",
    "FILE": "validation.json",
    "FORMAT": "jsonl",
    "JUDGE": "claude",
    "…": "a long password",
    "CASE": "demo/sft/0/q0/0",  # the case of `_make_case` in runs/demo
}


class WrongCommand(AssertionError):
    """A command of a page that the program refuses."""


def command_blocks(text: str) -> Iterator[list[str]]:
    """Yield the commands of each code block whose first line starts with a known program."""
    blocks: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        if line.strip().startswith("```"):
            fenced = not fenced
            blocks.append([])
        elif fenced or line.startswith("    "):
            blocks[-1].append(line.strip())
        elif line.strip():
            blocks.append([])
    for block in blocks:
        lines = [line for line in block if line and not line.startswith("#")]
        if lines and lines[0].split()[0] in PROGRAMS:
            yield [part for line in lines for part in _split(line)]


def _split(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [shlex.join(command) for command in commands if command]


# ---- the folder in which the commands run


def write_files(folder: Path) -> None:
    """Write the files that the pages name: questions, traces, media, results."""
    (folder / "media").mkdir(parents=True)
    (folder / "empty").mkdir()
    clips = tuple(f"{n}.mp4" for n in range(8))
    write_video(folder / "clip.mp4", count=4, height=28, width=56, rate=4, seed=0)
    for name in clips:
        shutil.copy(folder / "clip.mp4", folder / "media" / name)
    (folder / "data").symlink_to("media")
    (folder / "notebooks" / "source").mkdir(parents=True)  # for `p2r workshop`
    shutil.copy(ROOT / "notebooks" / "build.py", folder / "notebooks")
    (folder / "prebuilt" / "workshop").mkdir(parents=True)
    (folder / "prebuilt" / "workshop" / "recipe.yaml").write_text("")
    asked = [
        {
            "problem_id": n,
            "problem": "What moves?",
            "data_type": "video",
            "problem_type": "multiple choice",
            "options": ["A. a cube", "B. a ball"],
            "solution": "<answer>A</answer>",
            "path": f"./{name}",
            "data_source": "CLEVRER",
        }
        for n, name in enumerate(clips)
    ]
    said = [{**one, "process": "<think>A cube moves.</think>"} for one in asked]
    traces = [
        {**one, "answer": "A", "observation": "A cube moves.", "process": "So it is A."}
        for one in asked
    ]
    for name in ("Video-R1-260k.json", "questions.json"):
        (folder / name).write_text(json.dumps(asked))
    (folder / "Video-R1-COT-165k.json").write_text(json.dumps(said))
    for part in (1, 2):
        with gzip.open(folder / f"VideoP2R-162k_sft.part{part}of2.json.gz", "wt") as file:
            json.dump(traces[part - 1 :: 2], file)
    write_benchmark("mmvu", folder, clips)
    case = _make_case("demo").id
    label = [{"from_name": "sufficient", "value": {"choices": ["no"]}}]
    (folder / "story.json").write_text(json.dumps({"title": "", "cases": [{"case": case}]}))
    (folder / "task.jsonl").write_text(json.dumps({"id": case}) + "\n")
    labelled = {"data": {"case": case}, "annotations": [{"result": label, "completed_by": 1}]}
    (folder / "export.json").write_text(json.dumps([labelled]))
    outputs = [{"id": f"validation_{n}", "output": "<answer>B</answer>"} for n in range(len(clips))]
    (folder / "outputs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in outputs))
    for name in ("a", "b", "mmvu"):
        words = f"--benchmark mmvu --questions validation.json --name {name} --out {name}.json"
        with contextlib.chdir(folder):
            _run(["eval", "import", "jsonl", "outputs.jsonl", *words.split()])


def _begin(run: Path, recipe: str | None, overrides: list[str]) -> None:
    """Begin a run that has the kept traces of an earlier filter, if it is new."""
    if run.parent.parent.name == "runs":  # a stage of a run
        _begin(run.parent, recipe, overrides)
        _train(run)
        return
    if run.is_dir():
        return
    open_run(run, recipe, overrides)
    case = _make_case(run.name)
    (run / "sft.jsonl").write_text(case.model_dump_json() + "\n")
    table = funnel([(case.question.problem_type, "kept")])
    (run / "funnel.json").write_text(json.dumps({"judge": "oracle", "table": table}))
    (run / "data_root").write_text("../../media\n")
    write_cases(run / "cases.parquet", [Case.model_validate(case.model_dump())])


def _make_case(run: str) -> Case:
    case = make_case(0, trace_think="It moves.", trace_answer="A", question_path="0.mp4")
    case.trace.run = run
    return case


def _train(stage: Path) -> None:
    """Give a stage a finished model with adapters, if the run has none there."""
    if stage.suffix or stage.exists():
        return
    (stage / "adapters").mkdir(parents=True)
    (stage / "model").symlink_to(resolve_model("playground/base"))


# ---- running a block


def run_block(commands: list[str], folder: Path) -> None:
    """Run the commands of a block in a folder of `write_files`. Raises WrongCommand."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    for command in commands:
        try:
            with contextlib.chdir(folder):
                _run_command(shlex.split(command))
        except (ValueError, OSError, AssertionError) as error:
            raise WrongCommand(f"{command}: {error}") from error


def _run_command(words: list[str]) -> None:
    given = [*itertools.takewhile(VARIABLE.match, words)]
    program, *arguments = words[len(given) :]
    program = program.removeprefix(".venv/bin/")
    variables = dict(pair.replace("…", PLACEHOLDERS["…"]).split("=", 1) for pair in given)
    programs = {
        "p2r": _run_p2r,
        "make": _run_make,
        "accelerate": _run_accelerate,
        "python": _check_script,
        "bash": _check_script,
        "pip": _check_pip,
        "conda": _check_files,
        "tensorboard": lambda _: None,
        "pre-commit": lambda _: None,
        "export": lambda _: None,
    }
    assert program in programs, f"unknown program {program!r}"
    with mock.patch.dict(os.environ, variables):
        programs[program](arguments)


def _run_p2r(words: list[str]) -> None:
    named = PLACEHOLDERS | ({"FILE": "outputs.jsonl"} if words[:2] == ["eval", "import"] else {})
    words = [named.get(word, word) for word in words]
    command, given = _parse(words)
    if words[:2] == ["data", "get"]:  # it needs the hub
        assert given["name"] in known_sets(), f"no public set {given['name']!r}"
        return
    places = [*_paths(given), Path(str(given.get("model") or ""))]
    runs = [value for value in places if value.parts[:1] == ("runs",)]
    begins = command in ("generate", "demo") or given.get("cases") is not None
    if not begins:
        for run in runs:
            _begin(run, None, [])
        if given.get("run") and training_command(str(given.get("model"))):
            _train(given["run"] / given["model"])  # the evaluation of a stage needs it
    if "dry_run" in given:
        before = sorted(Path().rglob("*"))
        _run([*words, *([] if given["dry_run"] else ["--dry-run"])])
        assert sorted(Path().rglob("*")) == before, "the dry run has written files"
    else:
        # The files here are small, so a check of a benchmark says that questions are missing.
        _run(words, most=1 if words[:2] == ["eval", "check"] else 0)
    if begins:
        _begin(given["run"], given["recipe"], given["set"] or [])


@functools.cache
def command_line() -> Any:
    """Return the command `p2r`. It takes long to build."""
    return typer.main.get_command(app)


def _parse(words: list[str]) -> tuple[str | None, dict[str, Any]]:
    """Return the verb and its arguments; nothing if p2r will refuse them."""
    command, left = command_line(), list(words)
    while left and left[0] in getattr(command, "commands", {}):
        command = command.commands[left.pop(0)]
    try:
        return command.name, command.make_context(command.name, left).params
    except (typer.TyperException, typer.Exit, ValueError):
        return None, {}


def _paths(given: dict[str, Any]) -> Iterator[Path]:
    for value in given.values():
        yield from (each for each in (value if isinstance(value, list | tuple) else [value])
                    if isinstance(each, Path))  # fmt: skip


def _run(words: list[str], most: int = 0) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run_cli(words)
    assert code <= most, f"exit code {code}: {said.getvalue()[-500:].strip()}"
    return said.getvalue()


# ---- other programs


def _run_accelerate(arguments: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    try:
        given = launch_command_parser().parse_args(arguments[1:])
    except SystemExit as error:
        raise AssertionError("accelerate does not take these options") from error
    config = yaml.safe_load((ROOT / given.config_file).read_text(encoding="utf-8"))
    assert given.module and given.training_script == "p2r", "start it with -m p2r"
    kind, stage = config["distributed_type"], config.get("deepspeed_config", {}).get("zero_stage")
    launched = {
        "WORLD_SIZE": str(given.num_processes or config["num_processes"]),
        "ACCELERATE_USE_DEEPSPEED": str(kind == "DEEPSPEED").lower(),
        "ACCELERATE_USE_FSDP": str(kind == "FSDP").lower(),
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
    }
    with mock.patch.dict(os.environ, launched):
        _run_p2r(given.training_script_args)


def _run_make(arguments: list[str]) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr.strip()
    for line in done.stdout.splitlines():
        if line.strip().startswith(".venv/bin/p2r "):
            _run_p2r(shlex.split(line)[1:])


def _check_script(arguments: list[str]) -> None:
    file, *options = arguments
    if file == "-m":
        file, *options = f"{options[0].replace('.', '/')}.py", *options[1:]
    source = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else None
    assert source is not None, f"no file {file}"
    for option in options:
        if option.startswith("--"):
            assert f'"{option.split("=")[0]}"' in source, f"{file} has no option {option}"
    if file == "p2r/playground/pretrain.py":  # the next commands use its models
        out = Path(options[options.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        for name in ("teacher", "base"):
            (out / name).symlink_to(resolve_model(f"playground/{name}"))


def _check_pip(arguments: list[str]) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = settings["project"]["optional-dependencies"]
    for found in re.findall(r"(?:p2r|\.)\[([\w,-]+)\]", " ".join(arguments)):
        assert set(found.split(",")) <= set(extras), f"no extra {found}"
    assert arguments[:1] == ["install"], f"pip {arguments[0]}"


def _check_files(arguments: list[str]) -> None:
    for word in arguments:
        assert not word.endswith((".yml", ".yaml")) or (ROOT / word).is_file(), f"no file {word}"
