"""Every command block of README and docs runs: as a dry run where the verb has one."""

from __future__ import annotations

from pathlib import Path

import pytest
from documented_commands import WrongCommand, command_blocks, run_block, write_files

pytest_plugins = ["judge_fixtures"]
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(command_blocks(page.read_text(encoding="utf-8")), 1)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with small files under the names that the pages use."""
    made = tmp_path_factory.mktemp("documented") / "work"
    write_files(made)
    return made


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("WORLD_SIZE", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_commands_of_a_block_run(block, folder, server):
    run_block(block, folder)


def test_the_readme_and_the_gpu_pages_have_blocks():
    names = [str(block.id) for block in BLOCKS]
    for page in ("README.md", "quickstart.md", "gpus.md", "training.md", "data-factory.md"):
        assert f"{page}-1" in names


# ---- the check itself: each of these commands is deliberately wrong


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("p2r train --run runs/x", "No such command 'train'"),
        ("p2r sft --run runs/x --epochs 3", "No such option"),
        ("p2r sft", "Missing option '--run'"),
        ("p2r generate --run runs/x --recipe 9b", "no recipe '9b'"),
        ("p2r generate --run runs/x --recipe 7b+cheap-judge", "no preset 'cheap-judge'"),
        ("p2r generate --run runs/x --recipe 7b", "no questions: pass --questions"),
        ("p2r generate --run runs/x --questions no.json", "no.json"),
        ("p2r generate --run runs/x --questions questions.json --data-root lost", "not a folder"),
        (
            "p2r generate --run runs/x --questions questions.json --data-root empty",
            "8 questions have their media",
        ),
        ("p2r generate --run runs/x --set generate.engin=vllm", "unknown key"),
        ("p2r generate --run runs/x --set generate.engine=fast", "no engine 'fast'"),
        ("p2r generate --run runs/x --set models.teacher=teacher", "no model 'teacher'"),
        ("p2r filter --run runs/x --set filter.judge=judy", "no judge 'judy'"),
        ("p2r filter --run runs/x --budget much", "valid number"),
        ("p2r sft --run runs/x --cases Video-R1-COT-165k.json", "no trace with an observation"),
        ("p2r sft --run runs/x --set sft.global_batch=9", "cannot be divided into batches"),
        ("p2r rl --run runs/x --recipe 7b --set rl.micro_batch=9", "cannot be divided"),
        ("p2r rl --run runs/x --recipe 7b --credit unfair", "unknown credit scheme 'unfair'"),
        ("p2r eval run --run runs/x --model pa_gropo", "no model 'pa_gropo'"),
        ("p2r eval run --run runs/x --model 7b/x --benchmark mmmu", "mmmu"),
        ("p2r eval transfer c.json --run runs/x --model playground/base", "c.json"),
        ("p2r study credits --run runs/x", "credits"),
        ("p2r app runs/x --host 0.0.0.0", "set a password"),
        ("p2r ask lost.mp4 Why?", "lost.mp4"),
        ("p2r serve --model playground/nobody", "nobody"),
        ("p2r doctor --recipe 7b --gpus 16", "cannot be divided"),
        ("p2r data check Video-R1-260k.json --data-root runs", "exit code 1"),
        ("accelerate launch --config_file configs/zero9.yaml -m p2r rl --recipe 7b", "zero9"),
        (
            "accelerate launch --config_file configs/zero3.yaml --num_processes 3 -m p2r sft "
            "--run runs/x --set sft.global_batch=16",
            "on 3 worker",
        ),
        ("make demmo", "demmo"),
        ("python benchmarks/nothing.py", "no file"),
        ("python benchmarks/rescore.py --item 3", "no option --item"),
        ("pip install -e '.[gpu]'", "no extra gpu"),
        ("conda env create -f environment.yaml", "no file environment.yaml"),
        ("p2r doctor --recipe 7b && p3r doctor", "unknown program 'p3r'"),
    ],
)
def test_a_wrong_command_is_found(command, reason, folder):
    page = f"Text.\n\n    {command}    # a comment\n\nMore text.\n"
    (block,) = command_blocks(page)
    with pytest.raises(WrongCommand, match=reason):
        run_block(block, folder)


def test_a_later_command_of_a_run_uses_the_recipe_that_began_it(folder):
    begin = "p2r generate --run runs/x --recipe 7b --questions questions.json --data-root media"
    run_block([begin, "p2r rl --run runs/x --set rl.micro_batch=7"], folder)
    with pytest.raises(WrongCommand, match="cannot be divided"):  # tiny has 64 rollouts
        run_block([begin, "p2r rl --run runs/y --set rl.micro_batch=7"], folder)


def test_blocks_are_found_in_fences_and_indents_and_other_code_is_not():
    shell = "```\np2r doctor\n```\ntext\n\n    p2r filter --run a && p2r sft --run a\n\n"
    page = f"{shell}```python\nx = 1\n```\n"
    assert list(command_blocks(page)) == [
        ["p2r doctor"],
        ["p2r filter --run a", "p2r sft --run a"],
    ]
