"""Builds the inputs of models: frames, tokens and labels. Families differ in `p2r.families`.

Sampling, the losses and evaluation all build their inputs here, so all of them see the same prompt.
Frames arrive as `p2r.video.Frames`, already sampled and resized. This module does not resize,
sample or truncate anything. A batch can mix video, image and text-only questions, and a question
can have several media.

In a batch, token fields are tensors (B, L). Vision fields are lists of B entries, one per question
(None for a question without media), so a batch can be shuffled, sliced and repeated by question.
`to_model_inputs` joins these lists into the flat tensors that `forward` and `generate` take.
"""

from __future__ import annotations

from p2r.patches import torchvision_operators, transformers_tokenizers

torchvision_operators.apply()  # transformers imports torchvision below
transformers_tokenizers.apply()

# ruff: noqa: E402
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import is_flash_attn_2_available
from transformers.video_utils import VideoMetadata

from p2r.errors import DataError, EngineError, UserError
from p2r.families import family_of_processor, find_family
from p2r.files.hub import check_hub_model
from p2r.files.media import resolve_media
from p2r.records import Medium, Question
from p2r.runs.models import SHIPPED, shipped_models
from p2r.template import build_messages
from p2r.template.chat_template import SWITCH
from p2r.template.prompts import disarm
from p2r.video import FrameCache, clips_of
from p2r.video.changes import change_frames, check_change
from p2r.video.frames import sample_adaptively

if TYPE_CHECKING:
    from p2r.families.base import Family
    from p2r.runs.recipe import Models, VideoSettings
    from p2r.video import Clips, Frames

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
PLAYGROUND_MODELS = SHIPPED
VISION_KEYS = (
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)
IGNORED = -100  # the label of a token outside the loss
# The end of the assistant turn in the chat template. A model must learn to write it.
END_OF_TURN = "<|im_end|>"
Batch = dict[str, Any]


# ------------------------------------------------------------------------------------------- models


def resolve_model(name_or_path: str | Path) -> str:
    """Return the folder or hub id of a model; `playground/NAME` is an embedded model."""
    name = str(name_or_path)
    kind, _, embedded = name.partition("/")
    if Path(name).exists():
        return name
    if kind != "playground":
        # Report a mistyped folder at once. Only a valid hub id is searched on the hub.
        if not _HUB_ID.fullmatch(name) or Path(kind).is_dir():
            raise EngineError(
                f"no model folder {name!r}: give a folder, a hub id or playground/NAME"
            )
        return name
    if not (PLAYGROUND_MODELS / embedded / "config.json").is_file():
        known = ", ".join(shipped_models())
        how = "; docs/playground.md says how to make it" if embedded.startswith("second/") else ""
        raise EngineError(f"no embedded model {name!r}: use one of {known or 'none'}{how}")
    return str(PLAYGROUND_MODELS / embedded)


def check_model(name_or_path: str | Path) -> str:
    """Resolve a model and check that it supports video; raises `EngineError`."""
    path = resolve_model(name_or_path)
    file = Path(path) / "config.json"
    if not file.is_file():  # a hub id, or a folder that will fail to load
        return path
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise EngineError(f"{file} is not the config of a model: {error}") from error
    find_family(kind, str(name_or_path))
    return path


def find_model(name_or_path: str | Path) -> str:
    """Check a model like `check_model`, and check that a hub id is in the cache or on the hub.

    Raises `EngineError` within seconds if the hub does not answer or does not have the model.
    """
    path = check_model(name_or_path)
    if not Path(path).exists():
        try:
            check_hub_model(path)
        except UserError as error:
            raise EngineError(_explain(name_or_path, error)) from error
    return path


def load_model(
    name_or_path: str | Path,
    dtype: str | torch.dtype = "float32",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Load a model in evaluation mode, only from safetensors; raises `EngineError`.

    `more` are further arguments of `from_pretrained`.
    """
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    path = find_model(name_or_path)
    try:
        find_family(AutoConfig.from_pretrained(path).model_type, str(name_or_path))
        model = AutoModelForImageTextToText.from_pretrained(
            path, dtype=kind, use_safetensors=True, **more
        )
    except EngineError:
        raise
    except (OSError, ValueError) as error:
        raise EngineError(_explain(name_or_path, error)) from error
    return model.eval()


def choose_attention(models: Models) -> str:
    """Return the attention of transformers for the recipe's `models.attention`."""
    if models.attention != "auto":
        return models.attention
    flash = models.dtype == "bfloat16" and is_flash_attn_2_available()
    return "flash_attention_2" if flash else "sdpa"


def load_processor(name_or_path: str | Path) -> Any:
    """Load a model's processor (tokenizer, image and video processor); raises `EngineError`."""
    path = find_model(name_or_path)
    try:
        processor = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise EngineError(_explain(name_or_path, error)) from error
    family_of_processor(processor, str(name_or_path))
    return processor


def _explain(name: str | Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return f"cannot load model {str(name)!r} (a folder, a hub id, or playground/NAME): {reason}"


# ------------------------------------------------------------------------------------------ frames


def read_frames(
    question: Question,
    *,
    root: str | Path,
    cache: FrameCache,
    image_pixels: int | None = None,
    sampling: str = "uniform",
    change: str = "",
    **settings: Any,
) -> Clips:
    """Return the frames of a question, None for a text-only one.

    A question with several media has a tuple with the frames of each. If the question is about a
    part of a video, only this part is sampled. `settings` are arguments of `sample_frames` and hold
    for each medium. `image_pixels`: the most pixels of an image (default: as in a frame of a
    video). `sampling` "adaptive" chooses the frames of a video by how much changes. `change`: see
    `p2r.video.changes`. Raises `p2r.video.VideoError`, `p2r.files.media.MediaError`.
    """

    def read(medium: Medium) -> Frames:
        image = image_pixels and medium.data_type == "image"
        chosen = settings | ({"max_pixels": image_pixels} if image else {}) | medium.window
        path = resolve_media(root, medium.path)
        return read_file(path, cache=cache, sampling=sampling, change=change, **chosen)

    found = tuple(map(read, question.media))
    return found if len(found) > 1 else next(iter(found), None)


def read_file(
    path: str | Path,
    *,
    cache: FrameCache,
    sampling: str = "uniform",
    change: str = "",
    **settings: Any,
) -> Frames:
    """Return the frames of one file; the arguments are those of `read_frames`."""
    sample = sample_adaptively if sampling == "adaptive" else FrameCache.get
    return change_frames(sample(cache, path, **settings), change)


def train_settings(video: VideoSettings) -> dict[str, Any]:
    """Return the settings of `read_frames` for training."""
    image = {"image_pixels": video.image_pixels} if video.image_pixels else {}
    adaptive = {"sampling": "adaptive"} if video.sampling == "adaptive" else {}
    return {
        **image,
        **adaptive,
        "max_frames": video.train_frames,
        "max_pixels": video.train_pixels,
        "factor": video.factor,
        "timeout": video.timeout,
    }


def eval_settings(video: VideoSettings) -> dict[str, Any]:
    """Return the settings of `read_frames` for inference."""
    change = {"change": check_change(video.eval_change)} if video.eval_change else {}
    return train_settings(video) | {
        "max_frames": video.eval_frames,
        "max_pixels": video.eval_pixels,
        **change,
    }


# ------------------------------------------------------------------------------------------ prompts


def encode_prompts(
    processor: Any,
    questions: Sequence[Question],
    frames: Sequence[Clips],
    style: str = "full",
) -> Batch:
    """Encode left-padded prompts, which end where the response begins.

    `frames[i]` are the frames of `questions[i]` (see `read_frames`). Returns `input_ids`,
    `attention_mask` and `mm_token_type_ids` (0 text, 1 image, 2 video) of shape (B, L), and lists
    of B entries for `VISION_KEYS`: patches (rows, channels × temporal patch × patch²), grid (N, 3)
    in patches and, for Qwen2.5-VL, seconds per temporal patch (N,) for N media of a kind. Raises
    `DataError`.
    """
    samples = _encode_each(processor, questions, frames, style)
    return _pad(samples, processor.tokenizer.pad_token_id, left=True)


def to_model_inputs(batch: Mapping[str, Any], device: torch.device | str | None = None) -> Batch:
    """Return the keyword arguments of `model(...)` and `model.generate(...)` for a batch."""
    inputs = {key: value for key, value in batch.items() if key not in VISION_KEYS}
    for key in VISION_KEYS:
        if parts := [part for part in batch.get(key, ()) if part is not None]:
            inputs[key] = torch.cat(parts)
    return {key: value.to(device) for key, value in inputs.items()}


def prompt_text(processor: Any, question: Question, style: str, media: bool) -> str:
    """Return a question in the chat template, with the beginning of the response if it is given."""
    messages = build_messages(question, style)
    if not media:
        for message in messages:
            message["content"] = [part for part in message["content"] if part["type"] == "text"]
    as_is = {SWITCH: False} if SWITCH in processor.chat_template else {}
    text = processor.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **as_is
    )
    return text + disarm(question.begin)


def _encode_each(
    processor: Any,
    questions: Sequence[Question],
    frames: Sequence[Clips],
    style: str,
) -> list[Batch]:
    """Encode each question as one dictionary, without padding."""
    if len(questions) != len(frames):
        raise DataError(f"{len(questions)} questions but {len(frames)} entries of frames")
    images: list[Any] = []
    videos: list[Any] = []
    metadata: list[VideoMetadata] = []
    for question, clips in zip(questions, frames, strict=True):
        check_frames(processor, question, clips)
        for medium, clip in pair_media(question, clips):
            if medium.data_type == "image":
                images.append(clip.frames[0])
            else:
                videos.append(clip.frames)
                metadata.append(_metadata(clip))
    media_inputs: dict[str, Any] = {}
    if images:
        media_inputs["images"] = images
        media_inputs["images_kwargs"] = {"do_resize": False}
    if videos:
        media_inputs["videos"] = videos
        media_inputs["videos_kwargs"] = {
            "do_resize": False,
            "do_sample_frames": False,
            "cap_pixels_per_frame": False,
            "video_metadata": metadata,
        }
    texts = [
        prompt_text(processor, question, style, media is not None)
        for question, media in zip(questions, frames, strict=True)
    ]
    encoded = processor(text=texts, **media_inputs)
    samples = [
        {"input_ids": ids, "mm_token_type_ids": types}
        for ids, types in zip(encoded["input_ids"], encoded["mm_token_type_ids"], strict=True)
    ]
    grids = {"image": encoded.get("image_grid_thw"), "video": encoded.get("video_grid_thw")}
    _add_vision(samples, questions, frames, grids, encoded, family_of_processor(processor))
    for sample, question in zip(samples, questions, strict=True):
        check_tokens_match(processor, sample, question.id)
    return samples


def _metadata(clip: Frames) -> VideoMetadata:
    """Describe a video that consists of our frames, at their sampled rate."""
    count = len(clip)
    return VideoMetadata(
        total_num_frames=count, fps=clip.sampled_fps, frames_indices=list(range(count))
    )


def prompt_ids(processor: Any, question: Question, frames: Clips, style: str) -> list[int]:
    """Return the token ids of a prompt, with its vision tokens, without reading any pixel."""
    replaced: dict[str, list[str]] = {"image": [], "video": []}
    for medium, clip in pair_media(question, frames):
        kind = medium.data_type
        vision = processor.image_processor if kind == "image" else processor.video_processor
        count, height, width, _ = clip.shape
        moments = 1 if kind == "image" else math.ceil(count / vision.temporal_patch_size)
        grid = torch.tensor([[moments, height // vision.patch_size, width // vision.patch_size]])
        shown = {f"{kind}_grid_thw": grid, "video_metadata": [_metadata(clip)]}
        replaced[kind].append(getattr(processor, f"replace_{kind}_token")(shown, 0))
    text = prompt_text(processor, question, style, frames is not None)
    (text,), _ = processor.get_text_with_replacements([text], replaced["image"], replaced["video"])
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def _add_vision(
    samples: list[dict[str, Any]],
    questions: Sequence[Question],
    frames: Sequence[Clips],
    grids: Mapping[str, torch.Tensor | None],
    encoded: Mapping[str, Any],
    family: Family,
) -> None:
    """Split the flat patches of the processor and add to each sample its own."""
    rows = {
        "image": iter(_split(encoded.get("pixel_values"), grids["image"])),
        "video": iter(_split(encoded.get("pixel_values_videos"), grids["video"])),
    }
    grid = {kind: iter(() if g is None else g.split(1)) for kind, g in grids.items()}
    per_video = {key: iter(encoded.get(key) or ()) for key in family.video_fields}
    for sample, question, clips in zip(samples, questions, frames, strict=True):
        sample.update(dict.fromkeys(VISION_KEYS))
        kinds = Counter(medium.data_type for medium, _ in pair_media(question, clips))
        for kind, count in kinds.items():
            suffix = "_videos" if kind == "video" else ""
            sample[f"pixel_values{suffix}"] = torch.cat(list(islice(rows[kind], count)))
            sample[f"{kind}_grid_thw"] = torch.cat(list(islice(grid[kind], count)))
        if count := kinds["video"]:
            for key, values in per_video.items():
                # Qwen2.5-VL truncates the seconds of a temporal patch with int(). A value of
                # 0.9999999 instead of 1.0 would put all frames at the same time.
                sample[key] = torch.tensor([round(float(v), 6) for v in islice(values, count)])


def _split(patches: torch.Tensor | None, grids: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    return () if patches is None or grids is None else patches.split(grids.prod(-1).tolist())


def pair_media(question: Question, frames: Clips) -> list[tuple[Medium, Frames]]:
    """Return each medium of a question with its frames; raises `DataError` if the numbers differ.

    Frames of a question without a path, for example drawn ones, have an unnamed medium.
    """
    clips = clips_of(frames)
    media = question.media or [Medium(path="", data_type=question.data_type)]
    if clips and len(clips) != len(media):
        raise DataError(f"question {question.id!r}: {len(media)} media, frames of {len(clips)}")
    return list(zip(media, clips, strict=False))


def check_frames(processor: Any, question: Question, frames: Clips) -> None:
    """Check that the model can take the frames without a change; raises `DataError`."""
    for medium, clip in pair_media(question, frames):
        image = medium.data_type == "image"
        vision = processor.image_processor if image else processor.video_processor
        factor = vision.patch_size * vision.merge_size
        count, height, width, _ = clip.frames.shape
        if count == 0:
            raise DataError(f"question {question.id!r}: {clip.path} has no frames")
        if height % factor or width % factor:
            raise DataError(
                f"question {question.id!r}: frames of {height}×{width} do not divide into the "
                f"model's blocks of {factor}×{factor}: set video.factor to {factor} in the recipe"
            )
        if image and count > 1:
            raise DataError(
                f"question {question.id!r} is about an image, but {clip.path} has {count} frames: "
                "give an image, or set data_type to video"
            )


def check_tokens_match(processor: Any, sample: Batch, name: str) -> None:
    """Check that the prompt has one placeholder token per vision feature; raises `DataError`."""
    for kind in ("image", "video"):
        grid = sample[f"{kind}_grid_thw"]
        vision = processor.video_processor if kind == "video" else processor.image_processor
        features = 0 if grid is None else int(grid.prod(-1).sum()) // vision.merge_size**2
        pad = getattr(processor, f"{kind}_token_id")
        tokens = list(sample["input_ids"]).count(pad)
        if tokens != features:
            raise DataError(
                f"question {name!r}: {tokens} {kind} tokens in the prompt but {features} features "
                f"of the {kind}: remove vision tokens from the text"
            )


# ----------------------------------------------------------------------------------------- examples


def encode_example(
    processor: Any,
    question: Question,
    frames: Clips,
    response: str,
    style: str = "full",
    max_length: int | None = None,
) -> Batch:
    """Encode one unpadded training example: prompt, response, end of turn, and `labels`.

    The loss covers only the response and the end of turn. The response is tokenised separately from
    the prompt, as a model generates it. Raises `DataError` for an example of more than `max_length`
    tokens, and for a response with control tokens.
    """
    tokenizer = processor.tokenizer
    sample = _encode_each(processor, [question], [frames], style)[0]
    answer = tokenizer(response, add_special_tokens=False)["input_ids"]
    if special := sorted(set(answer) & set(tokenizer.all_special_ids)):
        names = ", ".join(tokenizer.convert_ids_to_tokens(special))
        raise DataError(f"question {question.id!r}: the response has control tokens ({names})")
    answer = [*answer, tokenizer.convert_tokens_to_ids(END_OF_TURN)]
    prompt = list(sample["input_ids"])
    if max_length is not None and len(prompt) + len(answer) > max_length:
        raise DataError(
            f"question {question.id!r}: {len(prompt)} prompt + {len(answer)} response tokens are "
            f"more than the limit of {max_length}, and an example is never cut"
        )
    sample["input_ids"] = prompt + answer
    sample["mm_token_type_ids"] = list(sample["mm_token_type_ids"]) + [0] * len(answer)
    sample["labels"] = [IGNORED] * len(prompt) + answer
    return sample


def collate_examples(examples: Sequence[Batch], pad_token_id: int) -> Batch:
    """Join results of `encode_example` into right-padded model inputs with `labels` (B, L)."""
    return to_model_inputs(_pad(examples, pad_token_id, left=False))


def _pad(samples: Sequence[Batch], pad_token_id: int, *, left: bool) -> Batch:
    length = max(len(sample["input_ids"]) for sample in samples)

    def pad(key: str, value: int) -> torch.Tensor:
        rows = []
        for sample in samples:
            row = list(sample[key])
            fill = [value] * (length - len(row))
            rows.append(fill + row if left else row + fill)
        return torch.tensor(rows, dtype=torch.long)

    for sample in samples:
        sample["attention_mask"] = [1] * len(sample["input_ids"])
    fills = {
        "input_ids": pad_token_id,
        "attention_mask": 0,
        "mm_token_type_ids": 0,
        "labels": IGNORED,
    }
    batch: Batch = {key: pad(key, value) for key, value in fills.items() if key in samples[0]}
    batch.update({key: [sample[key] for sample in samples] for key in VISION_KEYS})
    return batch
