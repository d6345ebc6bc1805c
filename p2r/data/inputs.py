"""Builds the tokens, vision inputs and labels of prompts and training examples.

In a batch, token fields are tensors (B, L). Vision fields are lists of B entries, one per question
(None for a question without media), so a batch can be shuffled, sliced and repeated by question.
`to_model_inputs` joins these lists into the flat tensors that `forward` and `generate` take.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.video_utils import VideoMetadata

from p2r.data.frames import pair_media
from p2r.errors import DataError
from p2r.families import family_of_processor
from p2r.records import Question
from p2r.template import build_messages
from p2r.template.chat_template import SWITCH
from p2r.template.prompts import disarm

if TYPE_CHECKING:
    from p2r.families.base import Family
    from p2r.video import Clips, Frames

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


# ---- prompts


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
    return pad_samples(samples, processor.tokenizer.pad_token_id, "left")


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
    _add_vision(samples, questions, frames, encoded, family_of_processor(processor))
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
        vision = getattr(processor, f"{kind}_processor")
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
    encoded: Mapping[str, Any],
    family: Family,
) -> None:
    """Split the flat patches of the processor and add to each sample its own."""
    rows: dict[str, Iterator[torch.Tensor]] = {}
    grids: dict[str, Iterator[torch.Tensor]] = {}
    for kind, patches in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        grid = encoded.get(f"{kind}_grid_thw")
        grids[kind] = iter(() if grid is None else grid.split(1))
        counts = () if grid is None else grid.prod(-1).tolist()
        rows[kind] = iter(encoded[patches].split(counts) if counts else ())
    per_video = {key: iter(encoded.get(key) or ()) for key in family.video_fields}
    for sample, question, clips in zip(samples, questions, frames, strict=True):
        sample.update(dict.fromkeys(VISION_KEYS))
        kinds = Counter(medium.data_type for medium, _ in pair_media(question, clips))
        for kind, count in kinds.items():
            suffix = "_videos" if kind == "video" else ""
            sample[f"pixel_values{suffix}"] = torch.cat(list(islice(rows[kind], count)))
            sample[f"{kind}_grid_thw"] = torch.cat(list(islice(grids[kind], count)))
        if count := kinds["video"]:
            for key, values in per_video.items():
                # Qwen2.5-VL truncates the seconds of a temporal patch with int(). A value of
                # 0.9999999 instead of 1.0 would put all frames at the same time. FSDP2 rounds
                # floating-point inputs to bfloat16, but not integers.
                seconds = [int(round(float(v), 6)) for v in islice(values, count)]
                sample[key] = torch.tensor(seconds)


def check_frames(processor: Any, question: Question, frames: Clips) -> None:
    """Check that the model can take the frames without a change; raises `DataError`."""
    for medium, clip in pair_media(question, frames):
        vision = getattr(processor, f"{medium.data_type}_processor")
        factor = vision.patch_size * vision.merge_size
        count, height, width, _ = clip.frames.shape
        if count == 0:
            raise DataError(f"question {question.id!r}: {clip.path} has no frames")
        if height % factor or width % factor:
            raise DataError(
                f"question {question.id!r}: frames of {height}×{width} do not divide into the "
                f"model's blocks of {factor}×{factor}: set video.factor to {factor} in the recipe"
            )
        if medium.data_type == "image" and count > 1:
            raise DataError(
                f"question {question.id!r} is about an image, but {clip.path} has {count} frames: "
                "give an image, or set data_type to video"
            )


def check_tokens_match(processor: Any, sample: Batch, name: str) -> None:
    """Check that the prompt has one placeholder token per vision feature; raises `DataError`."""
    for kind in ("image", "video"):
        grid = sample[f"{kind}_grid_thw"]
        vision = getattr(processor, f"{kind}_processor")
        features = 0 if grid is None else int(grid.prod(-1).sum()) // vision.merge_size**2
        pad = getattr(processor, f"{kind}_token_id")
        tokens = list(sample["input_ids"]).count(pad)
        if tokens != features:
            raise DataError(
                f"question {name!r}: {tokens} {kind} tokens in the prompt but {features} features "
                f"of the {kind}: remove vision tokens from the text"
            )


# ---- training examples


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
    return to_model_inputs(pad_samples(examples, pad_token_id, "right"))


def pad_samples(samples: Sequence[Batch], pad_token_id: int, side: str) -> Batch:
    """Join encoded samples: token rows padded on one side (B, L), vision inputs as lists."""
    for sample in samples:
        sample["attention_mask"] = [1] * len(sample["input_ids"])
    fills = {
        "input_ids": pad_token_id,
        "attention_mask": 0,
        "mm_token_type_ids": 0,
        "labels": IGNORED,
    }
    batch: Batch = {}
    for key, fill in fills.items():
        if key in samples[0]:
            rows = [torch.as_tensor(sample[key], dtype=torch.long) for sample in samples]
            batch[key] = pad_sequence(rows, True, fill, side)
    return batch | {key: [sample[key] for sample in samples] for key in VISION_KEYS}
