"""Measures the time of one RL step with the tiny model, for four trainers.

    python benchmarks/step.py --rounds 5
    python benchmarks/step.py --rounds 2 --shape long --checkpointing
    python benchmarks/step.py --json --set rl.prompts_per_step=2 --set rl.max_tokens=16

`--shape tiny` is the tiny recipe. `--shape long` has the proportions of real videos: four prompts
of more than 1,000 tokens and eight rollouts of 200 tokens for each. It compares `trl` and `process`
alone. `--checkpointing` turns gradient checkpointing on, as the recipes for GPUs do.

The four trainers are:
- `trl`: TRL's plain `GRPOTrainer`. It cannot train on videos, so it gets the frames of each video
  as images. Images are not merged in time, so its prompts are longer.
- `outcome`, `process`: `ProcessAwareGRPOTrainer` with that credit scheme and the oracle of the
  playground as the judge.
- `slow judge`: `process` with the Claude judge and its real client. A local server answers each
  call after a second.

A step reads and encodes the prompts, samples the rollouts, judges and scores them, computes the
log-probs of the reference, the loss and its gradient, and runs the optimiser. All trainers train
the tiny model on the same playground questions, on the CPU, in turns, in one OS process. Every
rollout has `rl.max_tokens` tokens and the learning rate is 0, so each round is the same amount of
work. The untrained model writes no text that can be judged. So in our trainers a logits processor
allows one token at each position, and each rollout is a well-formed response (with fewer than 60
tokens it is cut). The observations are all different and have two thirds of the tokens.

The results are medians over the rounds:
- `process_over_outcome`: time of `process` / time of `outcome`. `cpu_process_over_outcome` is the
  same in CPU seconds, which depend less on other work on the machine.
- `over_trl`: time of `process` / time of `trl`. Below 1, ours is faster.
- `judge_delay_adds_s`: how many seconds `slow judge` takes longer than `process`.
- `decodes_per_video`: how many times `process` decoded each video, over all rounds.
- `added_mb`: for each trainer, the peak memory during a step minus the memory before that step.
- `peak_mb`: the peak memory of the OS process, with all trainers.
- `prompt_tokens`: the mean length of a prompt, for `trl` and for the others.
- `floor`: the arithmetic of a step of `process` in GFLOP (`p2r.training.flops`), the GFLOP/s of a
  product of large matrices in the same run, and for each part the seconds that this arithmetic
  takes at least. The tiny model has small matrices, so its steps are far above their floor.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import sub, truediv
from pathlib import Path
from typing import Any

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
import torch
from common import make_questions
from datasets import Dataset
from PIL import Image
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from p2r import data
from p2r.families import read_sizes
from p2r.files.peak_memory import measured_peak
from p2r.judges import Judge, make_judge
from p2r.judges.kinds.claude import ClaudeJudge
from p2r.records import Question
from p2r.runs import use_threads
from p2r.runs.recipe import Recipe, load_recipe
from p2r.template import build_prompt
from p2r.training.flops import StepShape, step_flops
from p2r.training.grpo import grpo_arguments
from p2r.training.step import FramesOf, Prompt, Step, score
from p2r.training.step_judge import Judged
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.video import FrameCache

SHAPES: dict[str, list[str]] = {  # settings beside those of the tiny recipe
    "tiny": [],
    "long": [
        "video.train_frames=16",
        "video.train_pixels=28224",
        "rl.prompts_per_step=4",
        "rl.group_size=8",
        "rl.micro_batch=8",
        "rl.max_tokens=200",
    ],
}
TRAINERS = ("trl", "outcome", "process", "slow judge")
PARTS = ("decode", "encode", "generate", "judge", "judge_wait", "log_probs", "backward")


class SlowServer(ThreadingHTTPServer):
    """A local Messages API that answers "Yes" to every call after `delay` seconds.

    Inside the `with` block, the client of Anthropic uses this server.
    """

    request_queue_size = 128

    def __init__(self, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.delay = delay
        self.calls = 0
        self.counting = threading.Lock()

    def __enter__(self) -> SlowServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        os.environ["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{self.server_port}"
        os.environ["ANTHROPIC_API_KEY"] = "none"
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: SlowServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        with self.server.counting:
            self.server.calls += 1
        time.sleep(self.server.delay)
        body = json.dumps(
            {
                "id": "x",
                "type": "message",
                "role": "assistant",
                "model": "x",
                "content": [{"type": "text", "text": "<judgement>Yes</judgement>"}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 0, "output_tokens": 0},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print no log."""


class FixedResponseTrainer(ProcessAwareGRPOTrainer):
    """Samples responses that can be judged: all other tokens have no probability."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.generate = partial(self.model.generate, logits_processor=[self._only_fixed])
        self.fixed: torch.Tensor | None = None  # (rows, tokens)
        self.prompt = 0  # its length with padding

    def _sample_from(self, prompts: list[Prompt]) -> Any:
        size = self.settings.max_tokens
        self.fixed = torch.tensor([self._response(row, size) for row in range(len(prompts))])
        self.prompt = max(len(prompt.ids) for prompt in prompts)
        return super()._sample_from(prompts)

    def _response(self, row: int, size: int) -> list[int]:
        encode = partial(self._tokenizer.encode, add_special_tokens=False)
        filler = encode(" so")[-1:]
        seen = encode(f"<observation>I see {row}.")
        seen += filler * (2 * size // 3 - len(seen)) + encode("</observation><think>So")
        end = [*encode("</think><answer>2</answer>"), self._tokenizer.eos_token_id]
        return seen + filler * (size - len(seen) - len(end)) + end

    def _only_fixed(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        assert self.fixed is not None
        token = self.fixed[:, ids.size(1) - self.prompt, None]
        return torch.full_like(scores, -math.inf).scatter_(1, token, 0.0)


class TimedTrainer(TrainerCallback):
    """One trainer, with the seconds of its steps and of the parts of each step.

    The time of a step does not include the start of the training run.
    """

    def __init__(self, trainer: GRPOTrainer) -> None:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        self.trainer = trainer
        self.started = 0.0
        self.started_cpu = 0.0
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.added: list[float] = []  # MiB
        self.tokens = 0.0  # of all prompts and responses of a step
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}

    def step(self, seed: int) -> None:
        """Train one step. Trainers with equal prompts and seeds sample equal rollouts."""
        torch.manual_seed(seed)
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)  # give memory of other trainers back to the system
        before = resident_mb()
        with measured_peak(torch.device("cpu")) as peak:
            self.trainer.train()
        self.added.append((peak["peak_mib"] or math.nan) - before)

    def forget_first(self) -> None:
        """Remove the first step, a warm-up."""
        for values in (self.seconds, self.cpu_seconds, self.added, *self.parts.values()):
            del values[:1]

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.started, self.started_cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        self.cpu_seconds.append(time.process_time() - self.started_cpu)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict, **_: Any) -> None:
        self.tokens = logs.get("num_tokens", self.tokens)
        for part, values in self.parts.items():
            if f"time/{part}" in logs:
                values.append(logs[f"time/{part}"])

    def median(self) -> float:
        return statistics.median(self.seconds)


def resident_mb() -> float:
    """Return the resident memory of this OS process in MiB, NaN where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return math.nan
    return pages * resource.getpagesize() / 2**20


def step_arguments(recipe: Recipe, processor: Any, folder: Path, checkpointing: bool) -> GRPOConfig:
    """Return arguments for one step that saves nothing. Responses have the maximum length."""
    arguments = grpo_arguments(recipe, processor, folder)
    arguments.gradient_checkpointing = checkpointing
    arguments.save_strategy = "no"
    arguments.generation_kwargs["min_new_tokens"] = recipe.rl.max_tokens
    return arguments


def our_trainer(
    recipe: Recipe,
    questions: list[Question],
    frames_of: FramesOf,
    folder: Path,
    checkpointing: bool,
    judge: Judge,
) -> FixedResponseTrainer:
    processor = data.load_processor(recipe.models.base)
    prompts = [build_prompt(question, recipe.models.prompt) for question in questions]
    return FixedResponseTrainer(
        data.resolve_model(recipe.models.base),
        questions={question.id: question for question in questions},
        frames_of=frames_of,
        judge=judge,
        settings=recipe.rl,
        style=recipe.models.prompt,
        on_rollouts=lambda cases: None,
        trace_fields={},
        args=step_arguments(recipe, processor, folder, checkpointing),
        train_dataset=Dataset.from_list(
            [{"prompt": p, "question": q.id} for p, q in zip(prompts, questions, strict=True)]
        ),
        processing_class=processor,
    )


def plain_trainer(
    recipe: Recipe,
    questions: list[Question],
    frames_of: FramesOf,
    folder: Path,
    checkpointing: bool,
) -> GRPOTrainer:
    """Return TRL's trainer, with the frames of a video as images and the reasoning reward."""
    processor = data.load_processor(recipe.models.base)
    pixels = processor.image_processor.size  # the frames have their final size
    pixels["longest_edge"] = max(pixels["longest_edge"], recipe.video.train_pixels)
    processor.tokenizer.padding_side = "left"  # TRL expects left-padded token types
    by_id = {question.id: question for question in questions}

    def reward(completions: list, completion_ids: list, question: list[str], **_: Any) -> list:
        step = Step([by_id[name] for name in question], recipe.rl.group_size)
        step.texts = [completion[0]["content"] for completion in completions]
        step.completions, step.truncated = completion_ids, [False] * len(question)
        score(step, Judged([None] * len(question)), processor.tokenizer, recipe.rl)
        return [case.reasoning.total for case in step.cases]

    rows = [
        {
            "prompt": [{"role": "user", "content": build_prompt(question, recipe.models.prompt)}],
            "images": [Image.fromarray(frame) for frame in frames_of(question).frames],
            "question": question.id,
        }
        for question in questions
    ]
    return GRPOTrainer(
        data.resolve_model(recipe.models.base),
        reward_funcs=[reward],
        args=step_arguments(recipe, processor, folder, checkpointing),
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
    )


def measure(
    recipe: Recipe, rounds: int, delay: float, names: Sequence[str], checkpointing: bool
) -> dict[str, Any]:
    """Return all numbers of the trainers `names`. The first round does not count."""
    use_threads(recipe)
    with tempfile.TemporaryDirectory() as name, SlowServer(delay) as server:
        folder = Path(name)
        questions = make_questions(folder, "train", recipe.rl.prompts_per_step)
        read = partial(data.read_frames, root=folder, **data.train_settings(recipe.video))
        caches = {side: FrameCache() for side in names}
        sides = {}
        for side in names:
            frames_of = partial(read, cache=caches[side])
            if side == "trl":
                trainer = plain_trainer(recipe, questions, frames_of, folder, checkpointing)
            else:
                credit = "outcome" if side == "outcome" else "process"
                changed = recipe.model_copy(
                    update={"rl": recipe.rl.model_copy(update={"credit": credit})}
                )
                judge = ClaudeJudge() if side == "slow judge" else make_judge("oracle")
                trainer = our_trainer(changed, questions, frames_of, folder, checkpointing, judge)
            sides[side] = TimedTrainer(trainer)
        order = list(sides.values())
        for number in range(rounds + 1):
            for side in order:
                side.step(seed=number)
            order.append(order.pop(0))  # no trainer is always first
        for side in sides.values():
            side.forget_first()
    seconds = {name: side.seconds for name, side in sides.items()}

    def within_rounds(
        compare: Any, one: str, other: str, values: dict[str, list[float]] = seconds
    ) -> float | None:
        if one not in values or other not in values:
            return None
        return statistics.median(map(compare, values[one], values[other]))

    rollouts = recipe.rl.prompts_per_step * recipe.rl.group_size
    checked = sides["process"].trainer
    assert isinstance(checked, ProcessAwareGRPOTrainer)
    cpu = {name: side.cpu_seconds for name, side in sides.items()}
    return {
        "process_over_outcome": within_rounds(truediv, "process", "outcome"),
        "cpu_process_over_outcome": within_rounds(truediv, "process", "outcome", cpu),
        "over_trl": within_rounds(truediv, "process", "trl"),
        "judge_delay_adds_s": within_rounds(sub, "slow judge", "process"),
        "decodes_per_video": caches["process"].decoded / len(questions),
        "added_mb": {name: statistics.median(side.added) for name, side in sides.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rounds": rounds,
        "rollouts": rollouts,
        "checkpointing": checkpointing,
        "prompt_tokens": {
            name: side.tokens / rollouts - recipe.rl.max_tokens for name, side in sides.items()
        },
        "tokens_per_rollout": recipe.rl.max_tokens,
        "floor": find_floor(checked, recipe, checkpointing),
        "judge_calls_per_step": server.calls / (rounds + 1),
        "seconds": {name: side.median() for name, side in sides.items()},
        "parts": {
            name: {part: statistics.median(values) for part, values in side.parts.items() if values}
            for name, side in sides.items()
        },
    }


def find_floor(
    trainer: ProcessAwareGRPOTrainer, recipe: Recipe, checkpointing: bool
) -> dict[str, Any]:
    """Return the arithmetic of the trainer's step, the speed of this machine, and their ratio."""
    config, step = trainer.model.config.to_dict(), trainer.step
    prompt = step.prompts[0]
    shape = StepShape(
        prompts=recipe.rl.prompts_per_step,
        group=recipe.rl.group_size,
        prompt=round(statistics.mean(len(each.ids) for each in step.prompts)),
        completion=recipe.rl.max_tokens,
        grid=tuple(prompt.vision["video_grid_thw"][0].tolist()),
        reference=recipe.rl.beta > 0,
        recompute=checkpointing,
    )
    parts = step_flops(read_sizes(config), config["vision_config"], shape)
    speed = matmul_speed()
    return {
        "gflop": {part: count / 1e9 for part, count in parts.items()},
        "gflop_per_s": speed / 1e9,
        "seconds": {part: count / speed for part, count in parts.items()},
    }


def matmul_speed(size: int = 1024, times: int = 8) -> float:
    """Return the FLOP/s of a product of two square matrices; the best of some tries."""
    one = torch.randn(size, size)
    found = []
    for _ in range(times):
        start = time.perf_counter()
        one @ one
        found.append(2 * size**3 / (time.perf_counter() - start))
    return max(found)


def print_table(found: dict[str, Any]) -> None:
    print(f"one step of {found['rollouts']} rollouts × {found['tokens_per_rollout']} tokens, "
          f"gradient checkpointing {'on' if found['checkpointing'] else 'off'}; "
          f"seconds, medians of {found['rounds']} rounds")  # fmt: skip
    print(f"{'':<12}{'step':>8}{'added MiB':>12}{'prompt':>8}"
          + "".join(f"{part:>12}" for part in PARTS))  # fmt: skip
    for name, seconds in found["seconds"].items():
        parts = found["parts"][name]
        cells = (f"{parts[part]:>12.3f}" if part in parts else f"{'':>12}" for part in PARTS)
        print(f"{name:<12}{seconds:>8.2f}{found['added_mb'][name]:>12.0f}"
              f"{found['prompt_tokens'][name]:>8.0f}" + "".join(cells))  # fmt: skip
    if found["over_trl"] is not None:
        print(f"process over TRL {found['over_trl']:.3f}")
    if found["process_over_outcome"] is not None:
        print(f"process over outcome {found['process_over_outcome']:.3f} "
              f"({found['cpu_process_over_outcome']:.3f} in CPU time)")  # fmt: skip
    if found["judge_delay_adds_s"] is not None:
        print(f"the slow judge ({found['judge_calls_per_step']:.0f} calls a step) adds "
              f"{found['judge_delay_adds_s']:.2f} s")  # fmt: skip
    floor, parts = found["floor"], found["parts"]["process"]
    print(f"arithmetic {sum(floor['gflop'].values()):.0f} GFLOP at {floor['gflop_per_s']:.0f} "
          "GFLOP/s (a product of large matrices); seconds at least, and measured: "
          + ", ".join(f"{part} {least:.2f} / {parts[part]:.2f}"
                      for part, least in floor["seconds"].items()))  # fmt: skip
    print(f"decodes per video {found['decodes_per_video']:.2f}, peak {found['peak_mb']:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="steps of each trainer (default 5)")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds per call of slow judge")
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="sizes (default tiny)")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing on")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="override a recipe value, like rl.max_tokens=16")  # fmt: skip
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    changes = ["rl.steps=1", "rl.learning_rate=0.0", *SHAPES[options.shape], *options.set]
    recipe = load_recipe("tiny1", changes)
    names = TRAINERS if options.shape == "tiny" else ("trl", "process")
    with contextlib.redirect_stdout(sys.stderr):  # the trainers print too
        found = measure(recipe, options.rounds, options.delay, names, options.checkpointing)
    if options.json:
        print(json.dumps(found))
    else:
        print_table(found)


if __name__ == "__main__":
    main()
