"""`p2r sft --cases`: the released CoT sets of VideoP2R and of Video-R1 as SFT data."""

from __future__ import annotations

import gzip
import json

import pytest
from raw_examples import COT, VIDEOP2R
from small import read_lines, small_recipe

from p2r.cli import run_cli
from p2r.runs import open_run, read_json

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
SETTINGS = ("sft.max_steps=1", "sft.batch_size=2")


@pytest.fixture
def recipe(model_folder, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(small_recipe(model_folder, *SETTINGS).to_yaml())
    return str(file)


def with_media(record, path, number):
    return record | {"path": f"./{path}", "problem_id": number, "data_type": "video"}


@pytest.fixture
def released(tmp_path):
    """Four records in two gzip-compressed parts; the last one has no readable video."""
    for part, paths in ((1, ["long.mp4", "short.mp4"]), (2, ["twin.mp4", "broken.mp4"])):
        records = [with_media(VIDEOP2R, path, 2 * part + k) for k, path in enumerate(paths)]
        with gzip.open(tmp_path / f"VideoP2R-162k_sft.part{part}of2.json.gz", "wt") as file:
            json.dump(records, file)
    return tmp_path / "VideoP2R-162k_sft.part1of2.json.gz"


@pytest.fixture
def video_r1(tmp_path):
    file = tmp_path / "Video-R1-COT-165k.json"
    records = [with_media(COT, path, k) for k, path in enumerate(["long.mp4", "short.mp4"])]
    file.write_text(json.dumps(records))
    return file


def test_the_released_cot_trains_all_three_segments(released, recipe, media, tmp_path):
    run = tmp_path / "run"
    command = ["sft", "--run", str(run)]
    options = ["--cases", str(released), "--data-root", str(media), "--recipe", recipe]
    assert run_cli([*command, *options]) == 0
    assert (run / "sft" / "model" / "config.json").is_file()
    assert read_json(run / "sft" / "made.json")["style"] == "brief"
    (skipped,) = read_lines(run / "sft" / "skipped.jsonl")
    assert "broken.mp4" in json.dumps(skipped)
    assert read_json(run / "sources.json") == {"sft": str(released)}
    assert (run / "data_root").read_text().strip() == str(media)
    assert run_cli(command) == 0, "a finished stage returns at once, without the options"


def test_the_media_may_move_before_training(released, recipe, media, tmp_path):
    run, options = tmp_path / "run", ["--cases", str(released), "--recipe", recipe]
    open_run(run, recipe)
    (run / "data_root").write_text(f"{tmp_path / 'gone'}\n")
    assert run_cli(["sft", "--run", str(run), *options, "--data-root", str(media)]) == 0
    assert (run / "data_root").read_text().strip() == str(media)


def test_video_r1_cot_needs_the_agnostic_target(video_r1, recipe, media, tmp_path, capsys):
    options = ["--cases", str(video_r1), "--data-root", str(media), "--recipe", recipe]
    assert run_cli(["sft", "--run", str(tmp_path / "a"), *options]) == 2
    assert "set sft.target=agnostic" in capsys.readouterr().err
    run = tmp_path / "b"
    assert run_cli(["sft", "--run", str(run), *options, "--set", "sft.target=agnostic"]) == 0
    assert read_json(run / "sft" / "made.json")["style"] == "brief-think"


def test_a_file_without_traces_is_refused(recipe, media, tmp_path, capsys):
    file = tmp_path / "questions.json"
    file.write_text(json.dumps([{k: v for k, v in COT.items() if k != "process"}]))
    options = ["--cases", str(file), "--recipe", recipe]
    assert run_cli(["sft", "--run", str(tmp_path / "run"), *options]) == 2
    assert "holds no usable trace" in capsys.readouterr().err
    assert run_cli(["sft", "--run", str(tmp_path / "run"), "--data-root", str(media)]) == 2
    assert "give --cases FILE" in capsys.readouterr().err
