"""Time of one RL step of the tiny recipe: TRL's GRPO, ours with `outcome`, with `process`, and with
a judge that takes a second per call.

    python benchmarks/step.py --rounds 5
    python benchmarks/step.py --json --set rl.prompts_per_step=2 --set rl.max_tokens=16

A step is what a training run repeats: read and encode the prompts, sample every rollout, judge and
score it, log-probs of the reference, the loss and its gradient, the optimiser. All sides train the
embedded tiny model on the same questions of the playground, on the CPU, in this process and taking
turns; every rollout is `rl.max_tokens` long and the learning rate is 0, so that all of them do the
same amount of work in every round. The untrained model writes nothing that could be judged, so our
sides then put well-formed responses of that length in place of what was sampled, every one with an
observation of its own.

- `trl`: TRL's plain `GRPOTrainer` with the frames of each video as images: the nearest thing it can
  do, as it trains blind on video. Images are not merged in time, so that its prompts are longer.
- `outcome`, `process`: `ProcessAwareGRPOTrainer` with that credit, judged by the playground's
  oracle.
- `slow judge`: `process`, with the Claude judge, its real client, and a server on this machine that
  answers after a second.

Printed are medians over the rounds, of seconds and of what is compared within each round:
`process_over_outcome` is the time of `process` divided by that of `outcome`
(`cpu_process_over_outcome` the same in seconds of processor time, which other work on the machine
disturbs less), `over_trl` that of `process` divided by that of `trl` (below 1: ours is faster),
`judge_delay_adds_s` the seconds by which `slow judge` is slower than `process`. `decodes_per_video`
counts how often `process` decoded each distinct video over all rounds, `peak_mb` is the peak memory
of this process with all four sides in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import sub, truediv
from pathlib import Path
from typing import Any

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
import torch
from datasets import Dataset
from PIL import Image
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from p2r import data
from p2r.judges import Judge, make_judge
from p2r.judges.claude import ClaudeJudge
from p2r.playground.splits import write_split
from p2r.records import Question
from p2r.runs import use_threads
from p2r.runs.recipe import Recipe, load_recipe
from p2r.template import build_prompt
from p2r.training.grpo import grpo_arguments
from p2r.training.rollouts import score_rollouts
from p2r.training.trainer import FramesOf, ProcessAwareGRPOTrainer
from p2r.video import FrameCache

PARTS = ("decode", "encode", "generate", "judge", "judge_wait", "log_probs", "backward")


class SlowServer(ThreadingHTTPServer):
    """A Messages API on this machine that says yes to everything, `delay` seconds after it is
    asked. Inside the block Anthropic's client asks it.
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
        """Quiet."""


class Told(ProcessAwareGRPOTrainer):
    """Samples as ever, then says something that can be judged."""

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        sampled, logps = super()._generate_single_turn(*args, **kwargs)
        encode = partial(self._tokenizer.encode, add_special_tokens=False)
        filler = encode(" so")[-1:]
        tail = [*encode("</think><answer>2</answer>"), self._tokenizer.eos_token_id]
        said = []
        for row in range(len(sampled)):
            head = encode(f"<observation>I see {row}.</observation><think>So")
            said.append(head + filler * (len(sampled[row]) - len(head) - len(tail)) + tail)
        return said, logps


class Side(TrainerCallback):
    """One trainer, the seconds of its steps and of each of their parts.

    A step is timed from its begin to its end, without what starting a training run costs.
    """

    def __init__(self, trainer: GRPOTrainer) -> None:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        self.trainer = trainer
        self.started = 0.0
        self.started_cpu = 0.0
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}

    def step(self, seed: int) -> None:
        """One step; equal seeds sample equal rollouts on sides with equal prompts."""
        torch.manual_seed(seed)
        self.trainer.train()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.started, self.started_cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        self.cpu_seconds.append(time.process_time() - self.started_cpu)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict, **_: Any) -> None:
        for part, values in self.parts.items():
            if f"time/{part}" in logs:
                values.append(logs[f"time/{part}"])

    def median(self) -> float:
        return statistics.median(self.seconds)


def step_arguments(recipe: Recipe, processor: Any, folder: Path) -> GRPOConfig:
    """A training run of one step that saves nothing; responses do not end before their limit."""
    arguments = grpo_arguments(recipe, processor, folder)
    arguments.save_strategy = "no"
    arguments.generation_kwargs["min_new_tokens"] = recipe.rl.max_tokens
    return arguments


def our_trainer(
    recipe: Recipe, questions: list[Question], frames_of: FramesOf, judge: Judge, folder: Path
) -> Told:
    processor = data.load_processor(recipe.models.base)
    prompts = [build_prompt(question, recipe.models.prompt) for question in questions]
    return Told(
        data.resolve_model(recipe.models.base),
        questions={question.id: question for question in questions},
        frames_of=frames_of,
        judge=judge,
        settings=recipe.rl,
        style=recipe.models.prompt,
        on_rollouts=lambda cases: None,
        trace_fields={},
        args=step_arguments(recipe, processor, folder),
        train_dataset=Dataset.from_list(
            [{"prompt": p, "question": q.id} for p, q in zip(prompts, questions, strict=True)]
        ),
        processing_class=processor,
    )


def plain_trainer(
    recipe: Recipe, questions: list[Question], frames_of: FramesOf, folder: Path
) -> GRPOTrainer:
    """TRL's own, with a video's frames as images and the reasoning reward."""
    processor = data.load_processor(recipe.models.base)
    processor.tokenizer.padding_side = "left"  # TRL takes the prompts' token types for left-padded
    by_id = {question.id: question for question in questions}

    def reward(completions: list, completion_ids: list, question: list[str], **_: Any) -> list:
        cases = score_rollouts(
            processor.tokenizer,
            [by_id[name] for name in question],
            [completion[0]["content"] for completion in completions],
            completion_ids,
            [False] * len(question),
            [None] * len(question),
            recipe.rl,
            [{}] * len(question),
        )
        return [case.reasoning.total for case in cases]

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
        args=step_arguments(recipe, processor, folder),
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
    )


def measure(recipe: Recipe, rounds: int, delay: float) -> dict[str, Any]:
    """All numbers, after one round that is not counted."""
    use_threads(recipe)
    with tempfile.TemporaryDirectory() as name, SlowServer(delay) as server:
        folder = Path(name)
        write_split(folder, "train", recipe.rl.prompts_per_step)
        lines = (folder / "questions.jsonl").read_text().splitlines()
        questions = [Question.model_validate_json(line) for line in lines]
        read = partial(data.read_frames, root=folder, **data.train_settings(recipe.video))
        caches = {side: FrameCache() for side in ("trl", "outcome", "process", "slow judge")}
        sides = {"trl": Side(plain_trainer(
            recipe, questions, partial(read, cache=caches["trl"]), folder
        ))}  # fmt: skip
        for side, credit, judge in (
            ("outcome", "outcome", make_judge("oracle")),
            ("process", "process", make_judge("oracle")),
            ("slow judge", "process", ClaudeJudge()),
        ):
            changed = recipe.model_copy(
                update={"rl": recipe.rl.model_copy(update={"credit": credit})}
            )
            frames_of = partial(read, cache=caches[side])
            sides[side] = Side(our_trainer(changed, questions, frames_of, judge, folder))
        order = list(sides.values())
        for number in range(rounds + 1):
            for side in order:
                side.step(seed=number)
            order.append(order.pop(0))  # nobody always goes first
        for side in sides.values():
            del side.seconds[:1], side.cpu_seconds[:1]
            for values in side.parts.values():
                del values[:1]
    seconds = {name: side.seconds for name, side in sides.items()}

    def within_rounds(compare: Any, one: str, other: str) -> float:
        return statistics.median(map(compare, seconds[one], seconds[other]))

    rollouts = recipe.rl.prompts_per_step * recipe.rl.group_size
    return {
        "process_over_outcome": within_rounds(truediv, "process", "outcome"),
        "cpu_process_over_outcome": statistics.median(
            map(truediv, sides["process"].cpu_seconds, sides["outcome"].cpu_seconds)
        ),
        "over_trl": within_rounds(truediv, "process", "trl"),
        "judge_delay_adds_s": within_rounds(sub, "slow judge", "process"),
        "decodes_per_video": caches["process"].decoded / len(questions),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rounds": rounds,
        "rollouts": rollouts,
        "tokens_per_rollout": recipe.rl.max_tokens,
        "judge_calls_per_step": server.calls / (rounds + 1),
        "seconds": {name: side.median() for name, side in sides.items()},
        "parts": {
            name: {part: statistics.median(values) for part, values in side.parts.items() if values}
            for name, side in sides.items()
        },
    }


def print_table(found: dict[str, Any]) -> None:
    print(f"one step of {found['rollouts']} rollouts × {found['tokens_per_rollout']} tokens, "
          f"seconds, medians of {found['rounds']} rounds")  # fmt: skip
    print(f"{'':<12}{'step':>8}" + "".join(f"{part:>12}" for part in PARTS))
    for name, seconds in found["seconds"].items():
        parts = found["parts"][name]
        cells = (f"{parts[part]:>12.3f}" if part in parts else f"{'':>12}" for part in PARTS)
        print(f"{name:<12}{seconds:>8.2f}" + "".join(cells))
    print(f"process over outcome {found['process_over_outcome']:.3f} "
          f"({found['cpu_process_over_outcome']:.3f} in processor time), "
          f"over TRL {found['over_trl']:.3f}; "
          f"the slow judge ({found['judge_calls_per_step']:.0f} calls a step) adds "
          f"{found['judge_delay_adds_s']:.2f} s")  # fmt: skip
    print(f"decodes per video {found['decodes_per_video']:.2f}, peak {found['peak_mb']:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="steps of each side (default 5)")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds per call of slow judge")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="change the recipe tiny, as rl.max_tokens=16")  # fmt: skip
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    changes = ["rl.steps=1", "rl.learning_rate=0.0", *options.set]
    with contextlib.redirect_stdout(sys.stderr):  # trainers print; the result stands alone
        found = measure(load_recipe("tiny", changes), options.rounds, options.delay)
    if options.json:
        print(json.dumps(found))
    else:
        print_table(found)


if __name__ == "__main__":
    main()
