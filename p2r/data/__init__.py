"""Builds the inputs of models: frames, tokens and labels. Families differ in `p2r.families`.

Sampling, the losses and evaluation all build their inputs here, so all of them see the same prompt.
Frames arrive as `p2r.video.Frames`, already sampled and resized. This package does not resize,
sample or truncate anything. A batch can mix video, image and text-only questions, and a question
can have several media.
"""

from p2r.patches import torchvision_operators, transformers_tokenizers

torchvision_operators.apply()  # transformers imports torchvision below
transformers_tokenizers.apply()

# ruff: noqa: E402
from p2r.data.frames import eval_settings, pair_media, read_file, read_frames, train_settings
from p2r.data.inputs import (
    IGNORED,
    VISION_KEYS,
    Batch,
    check_frames,
    collate_examples,
    encode_example,
    encode_prompts,
    pad_samples,
    prompt_ids,
    prompt_text,
    to_model_inputs,
)
from p2r.data.models import (
    check_model,
    choose_attention,
    find_model,
    load_model,
    load_processor,
    resolve_model,
)

__all__ = [
    "IGNORED",
    "VISION_KEYS",
    "Batch",
    "check_frames",
    "check_model",
    "choose_attention",
    "collate_examples",
    "encode_example",
    "encode_prompts",
    "eval_settings",
    "find_model",
    "load_model",
    "load_processor",
    "pad_samples",
    "pair_media",
    "prompt_ids",
    "prompt_text",
    "read_file",
    "read_frames",
    "resolve_model",
    "to_model_inputs",
    "train_settings",
]
