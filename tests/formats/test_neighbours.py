"""Other projects read the exported files: TRL trains on them, LLaMA-Factory converts them."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2r.formats.exports import write_export
from p2r.records import Case, Trace
from p2r.template import render

pytest_plugins = ["small_fixtures"]
DOCS = Path(__file__).parents[2] / "docs" / "ecosystem.md"
# A folder with the package `llamafactory`, as `pip install --no-deps --target FOLDER` makes it.
LLAMA_FACTORY = os.environ.get("P2R_LLAMA_FACTORY", "")
# The package imports audio code that these data do not need.
CONVERT = """
import importlib.machinery, json, sys, types
from p2r.patches import torchvision_operators
torchvision_operators.apply()
audio = types.ModuleType("torchaudio")
audio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = audio
from types import SimpleNamespace
from datasets import load_dataset
from llamafactory.data.converter import align_dataset
from llamafactory.data.mm_plugin import MMPluginMixin
from llamafactory.data.parser import get_dataset_list
folder, media = sys.argv[1:]
(attributes,) = get_dataset_list(["p2r"], folder)
data = load_dataset("json", data_files=f"{folder}/{attributes.dataset_name}", split="train")
settings = SimpleNamespace(
    media_dir=media, streaming=False, preprocessing_num_workers=None, overwrite_cache=True
)
found = list(align_dataset(data, attributes, settings, SimpleNamespace(local_process_index=0)))
for row in found:
    MMPluginMixin._validate_messages(
        None, row["_prompt"] + row["_response"], row["_images"] or [], row["_videos"] or [], []
    )
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def cases(questions) -> list[Case]:
    """Traces of questions about videos, an image and text only."""
    text = render("I see two.", "So two.", "2")
    return [Case(question=q, trace=Trace(question_id=q.id, text=text)) for q in questions]


@pytest.fixture(scope="module")
def shared(cases, tmp_path_factory) -> Path:
    """An export for LLaMA-Factory, with the `dataset_info.json` of the documentation."""
    folder = tmp_path_factory.mktemp("llama-factory")
    write_export(cases, folder / "sft.json", "llama-factory")
    text = DOCS.read_text(encoding="utf-8")
    (folder / "dataset_info.json").write_text(text.split("```json\n")[1].split("```")[0])
    return folder


def test_llama_factory_files_keep_its_documented_schema(shared, cases):
    """`data/README.md` of LLaMA-Factory: the columns, the turns, a placeholder for each medium."""
    (info,) = json.loads((shared / "dataset_info.json").read_text()).values()
    assert info["formatting"] == "sharegpt" and info["file_name"] == "sft.json"
    columns = info["columns"]
    assert columns == {"messages": "conversations", "videos": "videos", "images": "images"}
    records = json.loads((shared / "sft.json").read_text())
    assert len(records) == len(cases)
    for record in records:
        turns = record[columns["messages"]]
        assert [turn["from"] for turn in turns] == ["human", "gpt"]
        assert all(turn["value"].strip() for turn in turns)
        for kind in ("video", "image"):
            placed = sum(turn["value"].count(f"<{kind}>") for turn in turns)
            assert placed == len(record[columns[f"{kind}s"]])


@pytest.mark.slow
@pytest.mark.skipif(
    not (LLAMA_FACTORY or importlib.util.find_spec("llamafactory")),
    reason="no llamafactory: set P2R_LLAMA_FACTORY to a folder that holds it",
)
def test_llama_factory_converts_the_file_itself(shared, cases, media):
    paths = [str(DOCS.parents[1]), LLAMA_FACTORY, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(shared), str(media)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HOME": str(shared / "hf")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    for row, case in zip(rows, cases, strict=True):
        (asked,), (said,) = row["_prompt"], row["_response"]
        assert asked["content"].endswith(case.question.problem)
        assert said == {"role": "assistant", "content": case.trace.text}
        files = [str(media / medium.path) for medium in case.question.media]
        assert (row["_videos"] or []) + (row["_images"] or []) == files


def read_with_datasets(file: Path):
    from datasets import load_dataset

    return load_dataset("json", data_files=str(file), split="train", cache_dir=str(file.parent))


def video_collator(processor, media: Path):
    """Return a collator for TRL, whose own one reads images only: decode, encode, mask the pads."""
    from p2r.video import sample_frames

    def collate(examples):
        chats, about = [], []
        for example in examples:
            turns = [*example["prompt"], *example["completion"]]
            (path,) = example["videos"]
            frames = sample_frames(media / path, max_frames=4, max_pixels=3136, factor=14)
            about.append({"total_num_frames": len(frames), "fps": frames.sampled_fps})
            parts = [
                {"type": "video", "video": frames.frames} if part["type"] == "video" else part
                for part in turns[0]["content"]
            ]
            chats.append([{"role": "user", "content": parts}, turns[1]])
        batch = processor.apply_chat_template(
            chats,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={
                "padding": True,
                "video_metadata": about,
                "do_sample_frames": False,
            },
        )
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return batch

    return collate


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "video"])
def test_trl_trains_a_step_on_the_file(kind, cases, media, model_folder, tmp_path, monkeypatch):
    """Images by TRL's own collator. Videos need a collator, because TRL's leaves them out."""
    from datasets import Image
    from trl import SFTConfig, SFTTrainer

    from p2r.data import load_model, load_processor

    chosen = [case for case in cases if case.question.path and case.question.data_type == kind][:1]
    data = read_with_datasets(write_export(chosen * 2, tmp_path / "sft.jsonl", "trl"))
    monkeypatch.chdir(media)  # the paths in the file are relative to the media
    if kind == "image":
        data = data.cast_column("images", [Image()])
    processor = load_processor(model_folder)
    settings = SFTConfig(
        str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=2,
        max_length=None,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        remove_unused_columns=False,
    )
    trainer = SFTTrainer(
        load_model(model_folder),
        args=settings,
        train_dataset=data,
        processing_class=processor,
        data_collator=video_collator(processor, media) if kind == "video" else None,
    )
    before = trainer.model.lm_head.weight.clone()
    assert math.isfinite(trainer.train().training_loss)
    assert not trainer.model.lm_head.weight.equal(before)
