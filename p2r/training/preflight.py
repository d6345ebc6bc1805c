"""The preflight: two checks between loading the model and the first RL step.

1. Can the start model earn rewards? A few rollouts are sampled and scored like those of a step.
2. Does the longest example fit? One micro-batch of the longest prompts, each with `rl.max_tokens`
   response tokens, runs forward and backward.

Afterwards the trainer, its gradients and all random numbers are as before: a run with a preflight
has the same losses as a run without. Two things are not measured: the backward pass under DeepSpeed
(its engine would run the optimiser), and the memory that the optimiser adds at step 1, which is
computed (`optimiser_mib`).
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback
from trl.trainer.utils import split_tensor_dict

from p2r import data
from p2r.errors import PreflightError
from p2r.files.peak_memory import MIB, measured_peak
from p2r.records import Case, Question
from p2r.rewards import PROCESSES, rewards_in_use
from p2r.runs import write_json
from p2r.template import parse
from p2r.training.probe import round_up, rows_of, same_randomness, sample_groups, undone
from p2r.training.step import FramesOf
from p2r.training.step_judge import judged_verdicts
from p2r.training.step_metrics import rollout_metrics
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.video import Frames

log = logging.getLogger(__name__)
SHOWN = 3  # failing completions in an error message


class PromptLengths:
    """A `frames_of` that remembers the tokens of each question's prompt, by the question's id."""

    def __init__(self, frames_of: FramesOf, processor: Any, style: str) -> None:
        self.frames_of, self.processor, self.style = frames_of, processor, style
        self.of: dict[str, int] = {}

    def __call__(self, question: Question) -> Frames | None:
        frames = self.frames_of(question)
        self.of[question.id] = len(data.prompt_ids(self.processor, question, frames, self.style))
        return frames


class Preflight(TrainerCallback):
    """Runs the preflight when a training begins: models are on their devices, no step is done."""

    def __init__(
        self,
        trainer: ProcessAwareGRPOTrainer,
        rows: Sequence[Question],
        lengths: Mapping[str, int],
        out: Path,
    ) -> None:
        self.trainer, self.rows, self.lengths, self.out = trainer, rows, lengths, out

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raises `PreflightError`."""
        check_start(self.trainer, self.rows, self.lengths, self.out)


def check_start(
    trainer: ProcessAwareGRPOTrainer,
    rows: Sequence[Question],
    lengths: Mapping[str, int],
    out: Path,
) -> dict[str, Any]:
    """Run both checks; write `out/preflight.json`, print a summary and return the report.

    `rows` are the questions of the training in their order. Raises `PreflightError` if the longest
    example does not fit, if all completions are cut off, or if none has a readable answer or keeps
    the format of a process that the training learns from.
    """
    settings = trainer.settings
    used = rewards_in_use(settings.credit, settings.rewards)
    distinct = list({question.id: question for question in rows}.values())
    with undone(trainer), same_randomness():
        start = time.perf_counter()
        cases, rates = sample_start(trainer, distinct)
        seconds = time.perf_counter() - start
        fault = why_not_start(cases, rates, used, settings.max_tokens)
        longest = None if fault else measure_longest(trainer, distinct, lengths)
    report: dict[str, Any] = {
        "passed": fault is None,
        "fault": fault,
        "rollouts": len(cases),
        "group_size": settings.group_size,
        "questions": list(dict.fromkeys(case.question.id for case in cases)),
        "rates": rates,
        "seconds": round(seconds, 3),
        "longest": longest,
        "failing": show_failing(cases),
    }
    if trainer.is_world_process_zero():
        write_json(out / "preflight.json", report)
        print("\n".join(describe_preflight(report)), flush=True)
        _warn(cases, rates, used)
    if fault:
        shown = "".join(f"\n  {n}. {line}" for n, line in enumerate(report["failing"], 1))
        raise PreflightError(
            f"RL does not start: {fault}. (Set rl.preflight=0 to start without this check.) "
            f"Failing completions:{shown}"
        )
    return report


# --------------------------------------------------------------------------------- the start model


def sample_start(
    trainer: ProcessAwareGRPOTrainer, questions: Sequence[Question]
) -> tuple[list[Case], dict[str, float | None]]:
    """Sample and score `rl.preflight` groups of rollouts as in a step; return cases and rates.

    The number of groups is rounded up, so that every worker gets the same number of rollouts.
    """
    size = trainer.settings.group_size
    groups = round_up(trainer, max(1, min(trainer.settings.preflight, len(questions))))
    step = sample_groups(trainer, list(islice(cycle(questions), groups)))
    return step.cases, rates_of(step.cases, step.rewards.numpy(), size)


def rates_of(cases: Sequence[Case], rewards: Any, group_size: int) -> dict[str, float | None]:
    """Return shares of the rollouts in [0, 1], None if nothing is known.

    `parsed`: no format problem; `format/…`: the format of each process; `answered`: a readable
    answer; `sufficient`, `accuracy`: means over the known ones; `collapse/…`: share of the groups.
    """
    metrics = rollout_metrics(cases, rewards, group_size)
    texts = [parse(case.trace.text) for case in cases]  # the user's reward may have no format
    rates = {
        "parsed": share(not parsed.problems for parsed in texts),
        **{
            f"format/{name}": share(parsed.format_ok[name] for parsed in texts)
            for name in PROCESSES
        },
        "truncated": metrics["truncated"],
        "answered": share(bool(parsed.answer) for parsed in texts),
        "accuracy": metrics["reasoning/accuracy"],
        "sufficient": metrics["perception/accuracy"],
        **{f"collapse/{name}": metrics[f"{name}/collapse"] for name in PROCESSES},
        "judge/unknown": metrics["judge/unknown"],
    }
    return {name: None if math.isnan(rate) else rate for name, rate in rates.items()}


def share(known: Iterable[bool]) -> float:
    """Return the share of true values."""
    return float(np.mean(list(known)))


def why_not_start(
    cases: Sequence[Case],
    rates: Mapping[str, float | None],
    used: Sequence[str],
    max_tokens: int,
) -> str | None:
    """Return why RL would learn nothing, with the likely cause and a remedy; None if it can start.

    `used` names the processes that the training learns from.
    """
    symptoms = []
    if rates["truncated"] == 1:
        symptoms.append(f"all {len(cases)} completions are cut off at {max_tokens} tokens")
    symptoms += [
        f"none of {len(cases)} completions keeps the format of {name}"
        for name in used
        if rates[f"format/{name}"] == 0
    ]
    if rates["answered"] == 0:
        symptoms.append(f"none of {len(cases)} completions has a readable answer")
    if not symptoms:
        return None
    begun = [case for case in cases if case.trace.text.lstrip().startswith(("<obs", "<think"))]
    if 2 * len(begun) < len(cases):
        reason = (
            "the start model does not know the template: run SFT first (p2r sft), or try another "
            "prompt style (models.prompt)"
        )
    elif 2 * sum(case.trace.truncated for case in begun) >= len(begun):
        reason = (
            "completions start with the template and are cut off before its end: raise "
            f"rl.max_tokens (now {max_tokens}), or run SFT on shorter traces"
        )
    else:
        problems = Counter(problem for case in cases for problem in case.trace.problems)
        most = f" (most frequent problem: {problems.most_common(1)[0][0]})" if problems else ""
        reason = (
            f"completions start with the template but do not keep it{most}: run SFT longer, with "
            "the same prompt style as RL (models.prompt)"
        )
    return f"{', '.join(symptoms)}; {reason}"


def show_failing(cases: Sequence[Case]) -> list[str]:
    """Return up to three different completions that fail, one per line, with their problems."""
    lines: dict[str, None] = {}
    for case in cases:
        problems = [*case.trace.problems, *(["cut off"] if case.trace.truncated else [])]
        if problems:
            text = shorten(case.trace.text, 120, placeholder=" …") or "(nothing)"
            if len(text) < 10:  # `shorten` drops a long word completely
                text = " ".join(case.trace.text.split())[:118] or "(nothing)"
            lines.setdefault(f"{case.question.id}: {text} [{'; '.join(problems)}]")
    return list(lines)[:SHOWN]


def _warn(cases: Sequence[Case], rates: Mapping[str, float | None], used: Sequence[str]) -> None:
    if "perception" in used and rates["judge/unknown"] == 1:
        reason = judged_verdicts(cases)[-1].rationale or "none given"
        log.warning(
            "preflight: the judge gave no verdict on any observation: %s", shorten(reason, 200)
        )
    for name in used:
        if rates[f"collapse/{name}"] == 1:
            log.warning(
                "preflight: in every group all %s rewards are equal or unknown, so the %s process "
                "has nothing to learn from: try more questions (rl.preflight) or a higher "
                "rl.temperature",
                name,
                name,
            )


# ------------------------------------------------------------------------------ the longest example


def measure_longest(
    trainer: ProcessAwareGRPOTrainer, questions: Sequence[Question], lengths: Mapping[str, int]
) -> dict[str, Any]:
    """Run one micro-batch of the longest prompts with `max_tokens` each, forward and backward.

    The longest of the questions whose media are opened: `lengths` has the tokens of their prompts.
    Returns tokens, seconds and the peak memory (MiB) of this worker. Raises `PreflightError` if it
    does not fit.
    """
    settings, workers = trainer.settings, trainer.accelerator.num_processes
    longest = sorted(
        [question for question in questions if question.id in lengths] or questions,
        key=lambda question: lengths.get(question.id, 0),
        reverse=True,
    )[: settings.prompts_per_step]
    count = settings.micro_batch
    while count * workers % settings.group_size:  # TRL scores whole groups
        count += settings.micro_batch
    groups = (question for question in cycle(longest) for _ in range(settings.group_size))
    rows = rows_of(list(islice(groups, count)))
    token = trainer.processing_class.tokenizer("a", add_special_tokens=False)["input_ids"][0]

    def say(prompts: list[list[int]], *_: Any) -> tuple[list, list | None]:
        said = [[token] * settings.max_tokens] * len(prompts)
        odds = [[0.0] * settings.max_tokens] * len(prompts) if trainer.use_vllm else None
        return said, odds

    trainer._generate_single_turn = say
    start = time.perf_counter()
    try:
        with measured_peak(trainer.accelerator.device) as peak:
            batch = trainer._generate_and_score_completions(rows)
            batch = split_tensor_dict(batch, count // settings.micro_batch)[0]
            backward = _forward_and_backward(trainer, batch)
    except torch.OutOfMemoryError as error:
        raise PreflightError(
            f"RL does not start: a micro-batch of {settings.micro_batch} of the longest example "
            f"(question {longest[0].id!r}: {_longest_prompt(trainer)} prompt + "
            f"{settings.max_tokens} tokens) does not fit into memory: lower rl.micro_batch or "
            "rl.max_tokens in this run, or begin a run with lower video.train_pixels or "
            "video.train_frames, or with adapters (tuning.lora_rank): "
            f"{shorten(str(error), 200)}"
        ) from error
    finally:
        del trainer._generate_single_turn
    trained = (p for p in trainer.model.parameters() if p.requires_grad)
    return {
        "question": longest[0].id,
        "prompt_tokens": _longest_prompt(trainer),
        "max_tokens": settings.max_tokens,
        "micro_batch": settings.micro_batch,
        "backward": backward,
        "seconds": round(time.perf_counter() - start, 3),
        **peak,
        "optimiser_mib": round(sum(2 * p.numel() * p.element_size() for p in trained) / MIB, 1),
    }


def _longest_prompt(trainer: ProcessAwareGRPOTrainer) -> int:
    return max(len(prompt.ids) for prompt in trainer.step.prompts)


def _forward_and_backward(trainer: ProcessAwareGRPOTrainer, batch: dict[str, Any]) -> bool:
    """Return False if only the forward pass ran."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model_wrapped, batch)
    if trainer.is_deepspeed_enabled:
        return False
    trainer.accelerator.backward(loss)
    return True


def describe_preflight(report: Mapping[str, Any]) -> list[str]:
    """Return a summary of the report in a few lines."""
    percent = {
        name: "unknown" if rate is None else f"{100 * rate:.0f} %"
        for name, rate in report["rates"].items()
    }
    lines = [
        f"preflight: {report['rollouts']} rollouts of the start model "
        f"({len(report['questions'])} questions, {report['seconds']:.1f} s): "
        f"in the template {percent['parsed']} (perception {percent['format/perception']}, "
        f"reasoning {percent['format/reasoning']}), cut off {percent['truncated']}",
        f"preflight: answer readable {percent['answered']}, correct {percent['accuracy']}; "
        f"observation sufficient {percent['sufficient']}; groups with equal rewards: "
        f"perception {percent['collapse/perception']}, reasoning {percent['collapse/reasoning']}",
    ]
    if longest := report["longest"]:
        peak = "not measured"
        if longest["memory"]:
            peak = f"{longest['peak_mib']} MiB ({longest['memory']})"
        passes = "forward and backward" if longest["backward"] else "forward"
        lines.append(
            f"preflight: longest example: {longest['prompt_tokens']} prompt + "
            f"{longest['max_tokens']} tokens, micro-batch of {longest['micro_batch']}, {passes} "
            f"in {longest['seconds']:.1f} s; peak memory {peak}; the optimiser adds "
            f"{longest['optimiser_mib']:.0f} MiB from step 1 on"
        )
    return lines
