"""Export a trained model as a folder that other programs use without p2r.

The folder has the weights, a processor with the pixels of the training, a chat template that asks
with the prompt of the training, a generation config, the reasoning parser for vLLM and a card.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.engines.vllm_server import PARSER
from p2r.errors import UserError
from p2r.export.model_card import write_model_card
from p2r.families import family_of_processor
from p2r.files.atomic import read_json, write_json, write_text
from p2r.files.hub import upload_folder
from p2r.runs.folder import check_run
from p2r.runs.recipe import Recipe, load_recipe
from p2r.template import style_name
from p2r.template.chat_template import SWITCH, ask_in_style

if TYPE_CHECKING:
    from p2r.runs.sections import VideoSettings

# Files that the export writes itself. It does not copy them from the model folder.
_MADE = ("chat_template.jinja", "generation_config.json", "card.json", "README.md")


@dataclass(frozen=True)
class TrainedModel:
    """A finished training of a run: its folder, the run's recipe and the prompt it was taught."""

    stage: Path
    recipe: Recipe

    @property
    def weights(self) -> Path:
        """The folder with the whole model."""
        return self.stage / "model"

    @property
    def style(self) -> str:
        """The prompt style: the name of a built-in one, or the text of a prompt file."""
        return self.recipe.style


def is_stage(folder: str | Path) -> bool:
    """Return whether a path is a finished training in a run, `RUN/pa_grpo`."""
    stage = Path(folder)
    return (stage / "model" / "config.json").is_file() and (stage.parent / "recipe.yaml").is_file()


def find_trained(folder: str | Path) -> TrainedModel:
    """Return the trained model in a stage of a run, `RUN/pa_grpo`. Raises `UserError`."""
    stage = Path(folder)
    stage = stage.parent if stage.name == "model" else stage
    if not (stage / "model" / "config.json").is_file():
        raise UserError(
            f"{folder} has no finished training: give a stage of a run, for example RUN/pa_grpo"
        )
    check_run(stage.parent)
    return TrainedModel(stage, load_recipe(stage.parent / "recipe.yaml"))


def export_model(folder: str | Path, out: str | Path, *, adapters: bool = False) -> Path:
    """Write the model of a run's stage to the folder `out`; return it.

    `adapters` exports the LoRA adapters instead of the merged weights. Raises `UserError` if the
    stage has no model, or no adapters, or if `out` exists and is not empty.
    """
    trained, out = _check(folder, out, adapters)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as draft:
        _write(trained, Path(draft), adapters)
        out.mkdir(exist_ok=True)
        for file in Path(draft).iterdir():
            shutil.move(file, out)
    return out


def preview_export(
    folder: str | Path, out: str | Path, *, adapters: bool = False, repository: str | None = None
) -> list[str]:
    """Check what `export_model` checks; return the plan."""
    trained, out = _check(folder, out, adapters)
    what = "adapters" if adapters else "merged weights"
    style = style_name(trained.style)
    lines = [f"{what} of {trained.stage}, with the prompt style {style}, to {out}"]
    return [*lines, *([f"then to {repository} on the hub"] if repository else [])]


def _check(folder: str | Path, out: str | Path, adapters: bool) -> tuple[TrainedModel, Path]:
    trained, out = find_trained(folder), Path(out)
    if adapters and not (trained.stage / "adapters").is_dir():
        raise UserError(
            f"{trained.stage} has no adapters, because the training changed all weights: export it "
            "without --adapters"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: give another --out")
    return trained, out


def push_model(folder: Path, repository: str, private: bool) -> str:
    """Upload an exported folder to the hub; return its address. Raises `UserError`."""
    return upload_folder(folder, repository, "model", private, "--out, without --push")


def _write(trained: TrainedModel, folder: Path, adapters: bool) -> None:
    from p2r.data import load_processor

    if adapters:
        _copy_adapters(trained, folder)
    else:
        for file in trained.weights.iterdir():
            if file.suffix in (".safetensors", ".json") and file.name not in _MADE:
                shutil.copyfile(file, folder / file.name)
    processor = load_processor(trained.weights)
    _set_pixels(processor, trained.recipe.video)
    template = ask_in_style(processor.chat_template, trained.style)
    processor.chat_template = processor.tokenizer.chat_template = template
    processor.save_pretrained(folder)
    write_json(folder / "generation_config.json", _generation(trained))
    shutil.copyfile(PARSER, folder / PARSER.name)
    write_model_card(trained.stage, trained.recipe, trained.style, folder, adapters=adapters)


def _copy_adapters(trained: TrainedModel, folder: Path) -> None:
    for file in (trained.stage / "adapters").iterdir():
        if file.suffix in (".safetensors", ".json"):
            shutil.copyfile(file, folder / file.name)
    config = read_json(folder / "adapter_config.json")
    config["base_model_name_or_path"] = base_of(trained)
    write_json(folder / "adapter_config.json", config)


def base_of(trained: TrainedModel) -> str:
    """Return the name of the model that a stage's adapters belong to, without local folders."""
    base = str(trained.recipe.models.base)
    if trained.stage.name != "sft":
        return f"{trained.stage.resolve().parent.name}-sft"
    return Path(base).name if Path(base).exists() else base


def _set_pixels(processor: Any, video: VideoSettings) -> None:
    """Give the processor the sizes and frames of the training.

    The processor samples at a rate, up to a number of frames. p2r samples that number of frames
    from a video of any length, or all of a shorter one. A very high rate makes both the same.
    Sampling is off by default: vLLM samples the frames itself before it calls the processor.
    """
    smallest = video.factor**2
    frames, images = processor.video_processor, processor.image_processor
    whole = family_of_processor(processor).limits_whole_video
    frames.size = {
        "shortest_edge": smallest,
        "longest_edge": video.train_pixels * (video.train_frames if whole else 1),
    }
    images.size = {
        "shortest_edge": smallest,
        "longest_edge": video.image_pixels or video.train_pixels,
    }
    frames.do_sample_frames, frames.fps, frames.num_frames = False, 1000, None
    frames.min_frames, frames.max_frames = 2, video.train_frames
    frames.cap_pixels_per_frame = whole
    if whole:
        frames.max_video_tokens = video.train_pixels // smallest  # of a frame


def _generation(trained: TrainedModel) -> dict[str, Any]:
    """Return the generation config: the sampling of p2r's evaluations, and the model's end."""
    found = trained.weights / "generation_config.json"
    kept = read_json(found) if found.is_file() else {}
    sampling = trained.recipe.eval
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version")
    config = {name: kept[name] for name in names if kept.get(name) is not None}
    if isinstance(ends := config.get("eos_token_id"), list):
        config["eos_token_id"] = list(dict.fromkeys(ends))
    config["max_new_tokens"] = sampling.max_tokens
    if sampling.temperature == 0:
        return config | {"do_sample": False}
    return config | {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "repetition_penalty": 1.0,
    }


def chat_template_of(model: str | Path, folder: Path | None) -> Path | None:
    """Return the file of the chat template that asks a trained model in its own prompt style.

    An exported folder has such a file. For a stage of a run, `RUN/pa_grpo`, the file is written to
    `folder` (None: the file is only named). Returns None for all other models: they use their own
    chat template.
    """
    from p2r.data import load_processor

    own = Path(model) / "chat_template.jinja"
    if own.is_file() and SWITCH in own.read_text(encoding="utf-8"):
        return own
    if not is_stage(model):
        return None
    trained = find_trained(model)
    if folder is None:
        return Path(own.name)
    file = folder / own.name
    template = load_processor(trained.weights).chat_template
    write_text(file, ask_in_style(template, trained.style))
    return file
