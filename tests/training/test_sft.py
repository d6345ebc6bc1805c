"""SFT learns the response, never cuts an example, lists skipped videos and resumes after a kill."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from small import VIDEO, kill_at_line, read_lines, small_recipe, stopped_at_line
from torch.utils.data import DataLoader

from p2r import data
from p2r.errors import TrainingError, UserError
from p2r.records import Case, Question, Trace
from p2r.runs.recipe import load_recipe
from p2r.training.plan import accumulation
from p2r.training.sft import sft_arguments, target, train_sft
from p2r.training.sft_batches import LengthGroups, TraceCollator, set_epoch
from p2r.video import FrameCache

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
STEPS = 12


def cases_of(questions: list[Question]) -> list[Case]:
    trace = {"text": "", "observation": "Two red.", "think": "So two.", "answer": "2"}
    return [Case(question=q, trace=Trace(question_id=q.id, **trace)) for q in questions]


def train(out: str, cases: str, model: str, media: str, *overrides: str) -> Path:
    """Run a short training; all arguments are paths, so that a subprocess can call it."""
    recipe = small_recipe(
        model,
        f"sft.max_steps={STEPS}",
        "sft.batch_size=2",
        "sft.save_steps=2",
        "sft.learning_rate=1e-3",
        "sft.group_by_length=true",
        *overrides,
    )
    read = [Case.model_validate_json(line) for line in Path(cases).read_text().splitlines()]
    return train_sft(recipe, read, out, data_root=media)


@pytest.fixture(scope="module")
def case_file(questions, tmp_path_factory) -> Path:
    """A file of cases with different media, and with two unreadable videos."""
    path = tmp_path_factory.mktemp("cases") / "cases.jsonl"
    lost = [
        questions[0].model_copy(update={"id": name, "path": f"{name}.mp4"})
        for name in ("broken", "absent")
    ]
    path.write_text("\n".join(c.model_dump_json() for c in cases_of([*questions, *lost])))
    return path


@pytest.fixture(scope="module")
def trained(case_file, model_folder, media, tmp_path_factory) -> Path:
    """The folder of a finished training."""
    out = tmp_path_factory.mktemp("sft") / "whole"
    assert train(out, case_file, model_folder, media) == out / "model"
    return out


def test_it_learns_and_saves_a_complete_model(trained):
    data.load_model(trained / "model")
    data.load_processor(trained / "model")
    rows = read_lines(trained / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert not (trained / "checkpoints").exists(), "a finished stage keeps no checkpoints"


def test_unreadable_videos_are_skipped_and_listed_once_with_the_reason(trained):
    skipped = read_lines(trained / "skipped.jsonl")
    assert sorted(row["id"] for row in skipped) == ["absent", "broken"]
    assert all(f"{row['id']}.mp4" in row["reason"] for row in skipped)


def test_a_finished_stage_is_not_trained_again(trained, case_file, model_folder, media):
    weights = trained / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    train(trained, case_file, model_folder, media)
    assert weights.stat().st_mtime_ns == before


def test_killed_and_started_again_it_ends_like_an_uninterrupted_training(
    trained, case_file, model_folder, media, tmp_path
):
    out = tmp_path / "sft"
    # In the second of three epochs, which has a different order than the first.
    kill_at_line(out / "metrics.jsonl", 7, train, out, case_file, model_folder, media)
    assert not (out / "model").exists()
    (out / "checkpoints" / "checkpoint-99").mkdir()  # one that was cut off while it was written
    train(out, case_file, model_folder, media, "video.eval_frames=3")  # changes no training
    whole, resumed = (read_lines(folder / "metrics.jsonl") for folder in (trained, out))
    assert [row["step"] for row in resumed] == list(range(1, STEPS + 1))
    for name in ("loss", "grad_norm", "epoch"):
        assert [row[name] for row in resumed] == [row[name] for row in whole], "bit for bit"
    ends = [data.load_model(folder / "model").state_dict() for folder in (trained, out)]
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())


@pytest.mark.parametrize("grouped", [True, False])
def test_a_resume_of_two_workers_has_the_order_of_its_epoch(grouped):
    """accelerate nests the sampler one level deeper with two workers, and after a resume."""

    def loader(rank: int) -> Any:
        torch.manual_seed(0)
        rows = list(range(32))
        order = LengthGroups(rows, 4, seed=3) if grouped else None
        plain = DataLoader(rows, 2, shuffle=None if grouped else True, sampler=order)
        return prepare_data_loader(
            *(plain, torch.device("cpu"), 2, rank),
            put_on_device=False,
            use_seedable_sampler=True,
            data_seed=3,
        )

    for rank in (0, 1):
        whole = loader(rank)
        orders = []
        for epoch in (0, 1):
            set_epoch(whole, epoch)
            whole.set_epoch(epoch)  # as `Trainer._run_epoch` does
            orders.append([row.tolist() for row in whole])
        assert orders[0] != orders[1]
        begun = loader(rank)
        set_epoch(begun, 1)
        resumed = skip_first_batches(begun, 3)
        resumed.set_epoch(1)
        assert [row.tolist() for row in resumed] == orders[1][3:]


def test_checkpoints_left_by_a_kill_at_the_end_are_removed(
    trained, case_file, model_folder, media, tmp_path
):
    out = tmp_path / "sft"
    shutil.copytree(trained, out)
    (out / "checkpoints" / "checkpoint-12").mkdir(parents=True)  # the model was in place already
    assert train(out, case_file, model_folder, media) == out / "model"
    assert not (out / "checkpoints").exists()


def test_a_stage_is_not_continued_with_other_settings(case_file, model_folder, media, tmp_path):
    out = tmp_path / "sft"
    with stopped_at_line(1):
        train(out, case_file, model_folder, media)
    with pytest.raises(UserError, match=r"sft.learning_rate was 0.001, now 0.1"):
        train(out, case_file, model_folder, media, "sft.learning_rate=0.1")


@pytest.fixture(scope="module")
def begun(questions, model_folder, media, tmp_path_factory) -> Path:
    """A folder with a file of cases, a finished training, and one that was stopped at step 7."""
    folder = tmp_path_factory.mktemp("begun")
    file = folder / "cases.jsonl"
    file.write_text("\n".join(case.model_dump_json() for case in cases_of(questions)))
    train(folder / "whole", file, model_folder, media)
    with stopped_at_line(7):
        train(folder / "stopped", file, model_folder, media)
    return folder


@pytest.mark.parametrize(
    "smaller", [("sft.batch_size=1", "sft.global_batch=2"), ("sft.token_budget=150",)]
)
def test_a_stage_continues_with_smaller_forward_passes(
    begun, model_folder, media, tmp_path, smaller
):
    out = shutil.copytree(begun / "stopped", tmp_path / "sft")
    train(out, begun / "cases.jsonl", model_folder, media, *smaller)
    whole, resumed = (read_lines(folder / "metrics.jsonl") for folder in (begun / "whole", out))
    assert [row["step"] for row in resumed] == list(range(1, STEPS + 1))
    losses = [[row["loss"] for row in rows] for rows in (whole, resumed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize(("gpus", "passes"), [(1, 8), (2, 4), (8, 1)])
def test_the_global_batch_is_the_same_on_any_number_of_gpus(gpus, passes):
    sft = load_recipe("7b").sft
    assert accumulation(sft, gpus) * sft.batch_size * gpus == 16
    assert accumulation(sft, gpus) == passes


def test_a_global_batch_that_cannot_be_divided_is_an_error():
    with pytest.raises(UserError, match=r"sft\.global_batch=16 cannot be divided .* 3 worker"):
        accumulation(load_recipe("7b").sft, 3)


def test_clip_and_decay_are_those_of_video_r1(tmp_path):
    arguments = sft_arguments(load_recipe("7b", ["models.dtype=float32"]), tmp_path)
    assert (arguments.max_grad_norm, arguments.weight_decay) == (5.0, 0.0)
    assert arguments.gradient_accumulation_steps * arguments.per_device_train_batch_size == 16


def test_no_usable_case_is_an_error_with_the_reason(model_folder, media, questions, tmp_path):
    lost = cases_of([questions[0].model_copy(update={"path": "broken.mp4"})])
    lost += [case.model_copy(update={"trace": Trace(question_id="x", text="?")}) for case in lost]
    with pytest.raises(TrainingError, match=r"none of 2 cases .*: 1 have no text for a segment"):
        train_sft(small_recipe(model_folder), lost, tmp_path, data_root=media)


def test_an_example_that_is_too_long_is_replaced_and_reported_once(model_folder, media, questions):
    skipped = []
    processor = data.load_processor(model_folder)
    cache = FrameCache(None)

    def collator(limit):
        return TraceCollator(
            processor,
            questions,
            [target(case) for case in cases_of(questions)],
            lambda q: data.read_frames(q, root=media, cache=cache, **VIDEO),
            "brief",
            limit,
            lambda question, reason: skipped.append((question.id, reason)),
        )

    rows = [{"example": 0}, {"example": 4}]  # a video, and text alone, which is shorter
    batch = collator(None)(rows)
    lengths = batch["attention_mask"].sum(1).tolist()
    assert batch["input_ids"].shape == (2, lengths[0]) and not skipped
    collate = collator(lengths[0] - 1)  # "long" and its twin have the same length
    batch = collate(rows)
    short = collate([{"example": 2}, {"example": 4}])
    assert torch.equal(batch["input_ids"], short["input_ids"]), "replaced by the next one, not cut"
    assert [name for name, _ in skipped] == ["long", "twin"]
    assert "never cut" in skipped[0][1]
    with pytest.raises(TrainingError, match="none of the 5 examples can be used"):
        collator(10)(rows)


def test_process_agnostic_targets_have_no_observation(questions):
    case = cases_of(questions)[0]
    assert target(case) == (
        "<observation>Two red.</observation> <think>So two.</think><answer>2</answer>"
    )
    assert target(case, process_aware=False) == "<think>So two.</think><answer>2</answer>"


def test_batches_have_similar_lengths_and_a_resumed_epoch_has_the_same_batches():
    lengths = torch.randint(10, 1000, (400,), generator=torch.Generator().manual_seed(0)).tolist()

    def padding(order):
        batches = [[lengths[i] for i in order[at : at + 4]] for at in range(0, len(order), 4)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    groups = LengthGroups(lengths, batch_size=4, seed=1)
    first = list(groups)
    assert sorted(first) == list(range(400)), "each once"
    assert padding(first) < padding(range(400)) / 10
    groups.set_epoch(1)
    second = list(groups)
    assert second != first
    resumed = LengthGroups(lengths, batch_size=4, seed=1)
    resumed.set_epoch(1)
    torch.manual_seed(7)
    assert list(resumed) == second
