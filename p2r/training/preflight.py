"""Before the first step of RL: does the start model give rewards anything to tell apart, and does
the longest example fit?

A few rollouts of the start model, sampled and scored by the trainer itself, exactly as a step's;
then one micro-batch of the longest prompts with completions of `max_tokens`, forward and backward.
The trainer, its gradients and all random numbers are afterwards as they were: a run with a
preflight has the losses of one without. The longest example is measured in `p2r.training.longest`.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import cycle, islice
from math import ceil, gcd
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from p2r.errors import PreflightError
from p2r.records import Case, Question
from p2r.rewards import PROCESSES, rewards_in_use
from p2r.runs import write_json
from p2r.template import answer_of
from p2r.training.longest import measure_longest, rows_of
from p2r.training.rollouts import rollout_metrics
from p2r.training.step_judge import JudgeWatch, judged_verdicts
from p2r.training.trainer import ProcessAwareGRPOTrainer

log = logging.getLogger(__name__)
SHOWN = 3  # failing completions in a refusal


class Preflight(TrainerCallback):
    """Runs the preflight when a training begins: models are on their devices, no step is done."""

    def __init__(
        self,
        trainer: ProcessAwareGRPOTrainer,
        rows: Sequence[Question],
        sizes: Mapping[str, tuple[int, ...] | None],
        out: Path,
    ) -> None:
        self.trainer, self.rows, self.sizes, self.out = trainer, rows, sizes, out

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Raises `PreflightError`."""
        check_start(self.trainer, self.rows, self.sizes, self.out)


def check_start(
    trainer: ProcessAwareGRPOTrainer,
    rows: Sequence[Question],
    sizes: Mapping[str, tuple[int, ...] | None],
    out: Path,
) -> dict[str, Any]:
    """Sample, score, measure; write `out/preflight.json`, print it in a few lines, return it.

    `rows` are the training's questions in their order, `sizes` those of their frames. Raises
    `PreflightError` where the format rate of a process that is learnt from or the rate of readable
    answers is 0, where all completions are cut off, and where the longest example does not fit.
    """
    settings = trainer.settings
    used = [name for name in rewards_in_use(settings.credit, settings.rewards) if name in PROCESSES]
    distinct = list({question.id: question for question in rows}.values())
    with _undone(trainer), _same_randomness():
        start = time.perf_counter()
        cases, rates = sample_start(trainer, distinct)
        seconds = time.perf_counter() - start
        fault = find_fault(cases, rates, used, settings.max_tokens)
        longest = None if fault else measure_longest(trainer, distinct, sizes)
    report = {
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
            f"RL does not start: {fault}. (rl.preflight=0 starts all the same.) "
            f"Failing completions:{shown}"
        )
    return report


# --------------------------------------------------------------------------------- the start model


def sample_start(
    trainer: ProcessAwareGRPOTrainer, questions: Sequence[Question]
) -> tuple[list[Case], dict[str, float | None]]:
    """`rl.preflight` groups of rollouts, sampled and scored as in a step, and their rates.

    Groups are dealt to the training processes like a step's: their number is rounded up to what can
    be divided among them.
    """
    size, processes = trainer.settings.group_size, trainer.accelerator.num_processes
    unit = processes // gcd(processes, size)
    groups = max(1, min(trainer.settings.preflight, len(questions)))
    groups = ceil(groups / unit) * unit
    asked = [q for q in islice(cycle(questions), groups) for _ in range(size)]
    each = len(asked) // processes
    first = trainer.accelerator.process_index * each
    trainer.on_rollouts = lambda cases: None  # they are no step's
    trainer._watch = JudgeWatch(1.0)
    trainer.model.train()
    trainer._generate_and_score_completions(rows_of(asked[first : first + each]))
    cases = gather_object(trainer._cases)
    return cases, rates_of(cases, trainer._rewards.cpu().numpy(), size)


def rates_of(cases: Sequence[Case], rewards: Any, group_size: int) -> dict[str, float | None]:
    """Shares of the rollouts, in [0, 1], None where nothing is known.

    `parsed`: without any problem of form; `format/…`: of each process; `answered`: with an answer
    that can be read; `sufficient`, `accuracy`: means over the known; `collapse/…`: of the groups.
    """
    metrics = rollout_metrics(cases, rewards, group_size)
    rates = {
        "parsed": float(np.mean([not case.trace.problems for case in cases])),
        **{f"format/{name}": metrics[f"{name}/format"] for name in PROCESSES},
        "truncated": metrics["truncated"],
        "answered": float(np.mean([answer_of(case.trace.text) is not None for case in cases])),
        "accuracy": metrics["reasoning/accuracy"],
        "sufficient": metrics["perception/accuracy"],
        **{f"collapse/{name}": metrics[f"{name}/collapse"] for name in PROCESSES},
        "judge/unknown": metrics["judge/unknown"],
    }
    return {name: None if math.isnan(rate) else rate for name, rate in rates.items()}


def find_fault(
    cases: Sequence[Case],
    rates: Mapping[str, float | None],
    used: Sequence[str],
    max_tokens: int,
) -> str | None:
    """Why RL would learn nothing, the likely reason and the remedy; None where it may start.

    `used` are the processes that are learnt from.
    """
    symptoms = []
    if rates["truncated"] == 1:
        symptoms.append(f"all {len(cases)} completions are cut off at {max_tokens} tokens")
    symptoms += [
        f"none of {len(cases)} completions has {name} in its format"
        for name in used
        if rates[f"format/{name}"] == 0
    ]
    if rates["answered"] == 0:
        symptoms.append(f"none of {len(cases)} completions holds an answer that can be read")
    if not symptoms:
        return None
    begun = [case for case in cases if case.trace.text.lstrip().startswith(("<obs", "<think"))]
    if 2 * len(begun) < len(cases):
        reason = (
            "the start model does not know the template: run SFT first (p2r sft), or see whether "
            "it follows another prompt style (models.prompt)"
        )
    elif 2 * sum(case.trace.truncated for case in begun) >= len(begun):
        reason = (
            "the template is begun and cut off before its end: raise "
            f"rl.max_tokens (now {max_tokens}), or run SFT on shorter traces"
        )
    else:
        problems = Counter(problem for case in cases for problem in case.trace.problems)
        most = f" (most often: {problems.most_common(1)[0][0]})" if problems else ""
        reason = (
            f"the template is begun but not kept{most}: run SFT longer, with the prompt style "
            "(models.prompt) that RL asks with"
        )
    return f"{', '.join(symptoms)}; {reason}"


def show_failing(cases: Sequence[Case]) -> list[str]:
    """Up to three different completions that fail, a line each, with what is wrong in them."""
    lines: dict[str, None] = {}
    for case in cases:
        problems = [*case.trace.problems, *(["cut off"] if case.trace.truncated else [])]
        if problems:
            text = shorten(case.trace.text, 120, placeholder=" …") or "(nothing)"
            if len(text) < 10:  # one long word would be left out as a whole
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
                "preflight: in every group all %s rewards are equal or unknown, which gives %s "
                "nothing to learn from: try more questions (rl.preflight) or a higher "
                "rl.temperature",
                name,
                name,
            )


# ---------------------------------------------------------------------------- leaving all as it was


@contextmanager
def _undone(trainer: ProcessAwareGRPOTrainer) -> Iterator[None]:
    """Whatever a step leaves behind in the trainer, and its gradients, are taken back."""
    changed = ("_metrics", "_logs", "_seconds")
    kept = {name: deepcopy(getattr(trainer, name)) for name in changed}
    kept |= {name: getattr(trainer, name) for name in ("on_rollouts", "_watch")}
    training, seen = trainer.model.training, trainer.state.num_input_tokens_seen
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(trainer, name, value)
        trainer.state.num_input_tokens_seen = seen
        trainer.model.train(training)
        trainer.model_wrapped.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Random numbers after the block are those that would have come without it."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def describe_preflight(report: Mapping[str, Any]) -> list[str]:
    """The report in a few lines."""
    percent = {
        name: "unknown" if rate is None else f"{100 * rate:.0f} %"
        for name, rate in report["rates"].items()
    }
    lines = [
        f"preflight: {report['rollouts']} rollouts of the start model "
        f"({len(report['questions'])} questions, {report['seconds']:.1f} s): "
        f"in the template {percent['parsed']} (perception {percent['format/perception']}, "
        f"reasoning {percent['format/reasoning']}), cut off {percent['truncated']}",
        f"preflight: answer readable {percent['answered']}, right {percent['accuracy']}; "
        f"observation sufficient {percent['sufficient']}; groups without a difference: "
        f"perception {percent['collapse/perception']}, reasoning {percent['collapse/reasoning']}",
    ]
    if longest := report["longest"]:
        peak = "not measured here"
        if longest["memory"]:
            peak = f"{longest['peak_mib']} MiB ({longest['memory']})"
        passes = "forward and backward" if longest["backward"] else "forward"
        lines.append(
            f"preflight: longest example: {longest['prompt_tokens']} prompt + "
            f"{longest['max_tokens']} tokens, micro-batch of {longest['micro_batch']}, {passes} "
            f"in {longest['seconds']:.1f} s; peak memory {peak}, and "
            f"{longest['optimiser_mib']:.0f} MiB of optimiser from step 1 on"
        )
    return lines
