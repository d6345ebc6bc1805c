"""The longest example of an RL training: does a micro-batch of it fit, and what does it take?

Part of the preflight (`p2r.training.preflight`). Not measured: the backward pass under DeepSpeed
(its engine would step the optimiser), and what the optimiser itself adds at step 1
(`optimiser_mib`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from trl.trainer.utils import split_tensor_dict

from p2r import data
from p2r.errors import PreflightError
from p2r.records import Question
from p2r.training.trainer import FramesOf, ProcessAwareGRPOTrainer
from p2r.video import Frames

MIB = 2**20
_PROCESS_MEMORY = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


class FrameSizes:
    """`frames_of` that remembers the (count, height, width) of what it gave, None for text only."""

    def __init__(self, frames_of: FramesOf) -> None:
        self.frames_of = frames_of
        self.of: dict[str, tuple[int, ...] | None] = {}

    def __call__(self, question: Question) -> Frames | None:
        frames = self.frames_of(question)
        self.of[question.id] = None if frames is None else frames.frames.shape[:3]
        return frames


def measure_longest(
    trainer: ProcessAwareGRPOTrainer,
    questions: Sequence[Question],
    sizes: Mapping[str, tuple[int, ...] | None],
) -> dict[str, Any]:
    """One micro-batch of a step's longest prompts with `max_tokens` each, forward and backward.

    Returns tokens, seconds and the peak memory (MiB) of this process. Raises `PreflightError` where
    it does not fit.
    """
    settings, processes = trainer.settings, trainer.accelerator.num_processes
    longest = sorted(
        questions,
        key=lambda q: count_prompt(trainer.processing_class, q, sizes.get(q.id), trainer.style),
        reverse=True,
    )[: settings.prompts_per_step]
    count = settings.micro_batch
    while count * processes % settings.group_size:  # TRL scores whole groups
        count += settings.micro_batch
    # One after the other, because a step's rows are shuffled: prompts are shared as little as can
    # be.
    rows = rows_of(list(islice(cycle(longest), count)))
    token = trainer._tokenizer("a", add_special_tokens=False)["input_ids"][0]
    said = [[token] * settings.max_tokens] * count
    odds = [[0.0] * settings.max_tokens] * count if trainer.use_vllm else None
    trainer._generate_single_turn = lambda *_: (said, odds)
    start = time.perf_counter()
    try:
        with measured_peak(trainer.accelerator.device) as peak:
            batch = trainer._generate_and_score_completions(rows)
            batch = split_tensor_dict(batch, count // settings.micro_batch)[0]
            backward = _forward_and_backward(trainer, batch)
    except torch.OutOfMemoryError as error:
        raise PreflightError(
            f"RL does not start: a micro-batch of {settings.micro_batch} of the longest example "
            f"(question {longest[0].id!r}: {max(trainer._prompt_tokens)} prompt + "
            f"{settings.max_tokens} tokens) does not fit into memory: lower rl.micro_batch, "
            "rl.max_tokens, video.train_pixels or video.train_frames, or train adapters "
            f"(tuning.lora_rank): {shorten(str(error), 200)}"
        ) from error
    finally:
        del trainer._generate_single_turn
    trained = (p for p in trainer.model.parameters() if p.requires_grad)
    return {
        "question": longest[0].id,
        "prompt_tokens": max(trainer._prompt_tokens),
        "max_tokens": settings.max_tokens,
        "micro_batch": settings.micro_batch,
        "backward": backward,
        "seconds": round(time.perf_counter() - start, 3),
        **peak,
        "optimiser_mib": round(sum(2 * p.numel() * p.element_size() for p in trained) / MIB, 1),
    }


def count_prompt(processor: Any, question: Question, size: Any, style: str) -> int:
    """Tokens of a question's prompt, from the size (count, height, width) of its frames."""
    text = data.prompt_text(processor, question, style, size is not None)
    tokens = len(processor.tokenizer(text)["input_ids"])
    if size is None:
        return tokens
    vision = processor.video_processor
    frames, height, width = size
    block = vision.patch_size * vision.merge_size
    return tokens - 1 + ceil(frames / vision.temporal_patch_size) * (height * width // block**2)


def _forward_and_backward(trainer: ProcessAwareGRPOTrainer, batch: dict[str, Any]) -> bool:
    """False where only the forward pass was done."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model_wrapped, batch)
    if trainer.is_deepspeed_enabled:
        return False
    trainer.accelerator.backward(loss)
    return True


@contextmanager
def measured_peak(device: torch.device) -> Iterator[dict[str, Any]]:
    """`memory` (cuda, rss or None: not measurable) and `peak_mib` are filled in at the end."""
    found: dict[str, Any] = {"memory": None, "peak_mib": None}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.update(memory="cuda", peak_mib=round(torch.cuda.max_memory_allocated(device) / MIB))
        return
    try:
        _RESET_PEAK.write_text("5")  # Linux: the peak of resident memory begins anew
    except OSError:
        yield found
        return
    yield found
    peak = next(line for line in _PROCESS_MEMORY.read_text().splitlines() if "VmHWM" in line)
    found.update(memory="rss", peak_mib=round(int(peak.split()[1]) / 1024))


def rows_of(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Rows of the training's data set."""
    return [{"prompt": question.problem, "question": question.id} for question in questions]
