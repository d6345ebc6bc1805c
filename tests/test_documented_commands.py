"""Every command block of README and docs is right: parsed to the end, or run as a dry run."""

from __future__ import annotations

from pathlib import Path

import pytest
from documented_commands import WrongCommand, check_block, command_blocks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(command_blocks(page.read_text(encoding="utf-8")), 1)
]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("WORLD_SIZE", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_commands_of_a_block_are_right(block):
    check_block(block)


def test_the_readme_and_the_gpu_pages_have_blocks():
    names = [str(block.id) for block in BLOCKS]
    for page in ("README.md", "quickstart.md", "gpus.md", "training.md", "data-factory.md"):
        assert f"{page}-1" in names


# ---- the check itself: each of these commands is deliberately wrong


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("p2r train --run runs/x", "no verb 'train'"),
        ("p2r sft --run runs/x --epochs 3", "No such option"),
        ("p2r sft", "Missing"),
        ("p2r generate --run runs/x --recipe 9b", "no recipe '9b'"),
        ("p2r generate --run runs/x --recipe 7b+cheap-judge", "no preset 'cheap-judge'"),
        ("p2r generate --run runs/x --set generate.engin=vllm", "unknown key"),
        ("p2r generate --run runs/x --set generate.engine=fast", "no engine 'fast'"),
        ("p2r filter --run runs/x --set filter.judge=judy", "no judge 'judy'"),
        ("p2r filter --run runs/x --budget much", "valid number"),
        ("p2r rl --run runs/x --recipe 7b --set rl.micro_batch=9", "exit code 2"),
        ("p2r rl --run runs/x --recipe 7b --credit unfair", "rl.credit"),
        ("p2r doctor --recipe 7b --gpus 16", "exit code 2"),
        ("accelerate launch --config_file configs/zero9.yaml -m p2r rl --recipe 7b", "zero9"),
        (
            "accelerate launch --config_file configs/zero3.yaml --num_processes 3 -m p2r rl "
            "--recipe 7b-8x80gb",
            "exit code 2",
        ),
        ("make demmo", "demmo"),
        ("python benchmarks/nothing.py", "no file"),
        ("python benchmarks/rescore.py --item 3", "no option --item"),
        ("pip install 'p2r[gpu]'", "no extra gpu"),
        ("conda env create -f environment.yaml", "no file environment.yaml"),
        ("p2r doctor && p3r doctor", "unknown program 'p3r'"),
    ],
)
def test_a_wrong_command_is_found(command, reason, tmp_path):
    page = f"Text.\n\n    {command}    # a comment\n\nMore text.\n"
    (block,) = command_blocks(page)
    with pytest.raises(WrongCommand, match=reason):
        check_block(block)


def test_a_later_command_of_a_run_uses_the_recipe_that_began_it():
    begin = "p2r generate --run runs/x --recipe 7b"
    check_block([begin, "p2r rl --run runs/x --set rl.micro_batch=7"])
    with pytest.raises(WrongCommand, match="exit code 2"):  # tiny has 64 rollouts
        check_block([begin, "p2r rl --run runs/y --set rl.micro_batch=7"])


def test_blocks_are_found_in_fences_and_indents_and_other_code_is_not():
    shell = "```\np2r doctor\n```\ntext\n\n    p2r filter --run a && p2r sft --run a\n\n"
    page = f"{shell}```python\nx = 1\n```\n"
    assert list(command_blocks(page)) == [
        ["p2r doctor"],
        ["p2r filter --run a", "p2r sft --run a"],
    ]
