"""Trains the tiny models of the second world from scratch.

    python -m p2r.playground.pretraining.train --out FOLDER

`p2r.playground.pretraining.curriculum` lists the stages. Each stage writes its model into a folder
with its name, and a line for every check into `log.jsonl`. A stage whose folder is complete is
skipped. A stage that was interrupted continues at its last check. The vision tower starts from that
of the first world's teacher.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from p2r import data
from p2r.files.atomic import write_text
from p2r.files.own_process import end_with_parent
from p2r.playground.pretraining import checks, circuits, clock, pointing, tower
from p2r.playground.pretraining.batches import make_batch
from p2r.playground.pretraining.curriculum import (
    CURRICULUM,
    FIRST_HELD_OUT,
    FIRST_SEED,
    MODELS,
    Stage,
    draw_maker,
)
from p2r.playground.second.examples import corpus
from p2r.playground.tiny_model import (
    SPECIAL_TOKENS,
    build_model,
    build_processor,
    build_tokenizer,
)

WARMUP = 50  # steps
ROPE_THETA = 300.0
COPY_RATE, COPY_STEPS, COPIED = 2e-3, 1500, 0.93
# The stage "words" of the vision tower.
WORDS_AFTER, WORDS_STEPS, WORDS_BATCH, WORDS_RATE = "look up", 1000, 32, 1e-3
FINAL_RATE, STRANGE = 0.05, 0.1
HELD_OUT_CLIPS = 128
_STATE = "optimizer.safetensors"


def _order() -> tuple[str, ...]:
    names = [stage.name for stage in (*CURRICULUM, *MODELS)]
    place = names.index(WORDS_AFTER) + 1
    return ("copy", *names[:place], "words", *names[place:])


STAGES = _order()  # the names of all stages, in order


def make_models(out: Path, seed: int = 0, last: str = "") -> None:
    """Train every stage that is not complete in `out`; stop after the stage `last`."""
    stages = {stage.name: stage for stage in (*CURRICULUM, *MODELS)}
    models = {stage.name for stage in MODELS}
    before = out
    for name in STAGES:
        folder = out / name
        if not _complete(folder):
            if name == "copy":
                learn_to_copy(folder, seed)
            elif name == "words":
                learn_words(before, folder)
            else:
                train(stages[name], before, folder)
        if name == last:
            return
        if name not in models:  # both models continue the last stage before them
            before = folder


def learn_to_copy(out: Path, seed: int) -> None:
    """Make the first weights, and train them until they copy random tokens."""
    processor = build_processor(build_tokenizer(corpus(FIRST_SEED)))
    model = build_model(processor.tokenizer, seed, rope_theta=ROPE_THETA)
    circuits.calm_writers(model)
    circuits.look_back(model)
    teacher = data.load_model("playground/teacher", "float32")
    model.model.visual.load_state_dict(teacher.model.visual.state_dict())
    rng = random.Random(seed)
    makers = (circuits.random_repeats, circuits.random_records)
    right = {make.__name__: 0.0 for make in makers}
    optimizer = _optimizer(model, COPY_RATE)
    model.train()
    for step in range(COPY_STEPS):
        make = makers[step % 2]
        inputs = make(rng, len(processor.tokenizer), len(SPECIAL_TOKENS))
        result = _update(model, optimizer, inputs, COPY_RATE * min(1.0, (step + 1) / WARMUP))
        now = checks.right_tokens(result.logits, inputs["labels"])
        right[make.__name__] += 0.1 * (now - right[make.__name__])
        if step % 50 == 49:
            _log(out, step=step + 1, loss=round(result.loss.item(), 3), copied=_rounded(right))
        if min(right.values()) >= COPIED:
            break
    _save(model, processor, out)
    _finish(out, steps=step + 1, copied=_rounded(right))


def learn_words(start: Path, out: Path) -> None:
    """Train the vision tower of the model in `start` to write words: see `tower`."""
    model, processor = data.load_model(start, "float32"), data.load_processor(start)
    model.requires_grad_(False)
    model.model.visual.requires_grad_(True)
    held_out = range(FIRST_HELD_OUT, FIRST_HELD_OUT + HELD_OUT_CLIPS)
    clips = tower.tower_batch(processor, held_out, 0.0)
    tower.quieten(model, clips)
    reader = tower.WordReader(model, processor.tokenizer)
    learned = [*model.model.visual.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(learned, betas=(0.9, 0.98))

    def make(step: int) -> dict[str, torch.Tensor]:
        first = FIRST_SEED + step * WORDS_BATCH
        return tower.tower_batch(processor, range(first, first + WORDS_BATCH), STRANGE)

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make, 0)
        for step in range(WORDS_STEPS):
            batch, following = following.result(), pool.submit(make, step + 1)
            loss = reader.loss(tower.see(model, batch), batch["labels"])
            _descend(optimizer, loss, falling_rate(WORDS_RATE, FINAL_RATE, step, WORDS_STEPS))
            if step % 50 == 49 or step + 1 == WORDS_STEPS:
                with torch.no_grad():
                    found = _rounded(reader.right(tower.see(model, clips), clips["labels"]))
                _log(out, step=step + 1, loss=_rounded({"words": loss.item()}), check=found)
    _save(model, processor, out)
    _finish(out, steps=WORDS_STEPS, check=found)


def train(stage: Stage, start: Path, out: Path) -> None:
    """Train a stage from the model in `start`, until its gate or its last step."""
    state = json.loads(_read(out / "state.json") or '{"step": 0}')
    folder = _checkpoint(out, state["step"]) if state["step"] else start
    model, processor = data.load_model(folder, "float32"), data.load_processor(folder)
    model.model.visual.requires_grad_(False)  # it would forget words that this stage does not use
    optimizer = _optimizer(model, stage.rate)
    if state["step"]:
        _load_optimizer(optimizer, model, folder / _STATE)
    pointer, watch = pointing.Pointer(model), clock.Clock(model, processor.tokenizer)
    made = seeds_of(stage)
    losses: dict[str, float] = {}
    done, found, began = state["step"], state.get("check", {}), time.time()
    model.train()
    with _worker() as pool:
        following = pool.submit(make_batch, stage, processor, made, state["step"])
        last = state["step"] if _passes(stage, found) else stage.stop or stage.steps
        for step in range(state["step"], last):
            inputs, points = following.result()
            following = pool.submit(make_batch, stage, processor, made, step + 1)
            rate, aims = rate_of(stage, step), partial(_aims, pointer, points, watch, inputs)
            loss = _update(model, optimizer, inputs, rate, aims).loss.item()
            seen = {draw_maker(stage, step)[0]: loss}
            if any(points):
                seen |= {"pointing": pointer.last, "clock": watch.last}
            for name, value in seen.items():
                losses[name] = losses.get(name, value) + 0.1 * (value - losses.get(name, value))
            done = step + 1
            if done % 50 == 0:
                pace = (time.time() - began) / (done - state["step"])
                _log(out, step=done, seconds=round(pace, 3), loss=_rounded(losses))
            if done % stage.check_every == 0 or done == last:
                found = checks.measure(stage, model, processor)
                model.train()
                _log(out, step=done, check=_rounded(found))
                kept = _checkpoint(out, done)
                _save(model, processor, kept)
                _save_optimizer(optimizer, model, kept / _STATE)
                # Now the checkpoint is complete and counts.
                write_text(out / "state.json", json.dumps({"step": done, "check": found}))
                _remove_checkpoints(out, kept)
                if _passes(stage, found):
                    break
    _save(model, processor, out)
    _finish(out, steps=done, check=_rounded(found), gate=dict(stage.gate))
    _remove_checkpoints(out)  # last: an interrupted end needs them


def _passes(stage: Stage, found: Mapping[str, float]) -> bool:
    """Return whether a check passes the gate of a stage; False without a gate or a check."""
    return bool(stage.gate and found) and all(found[k] >= v for k, v in stage.gate.items())


def seeds_of(stage: Stage) -> int:
    """Return the first seed of a stage. No two stages share a seed."""
    first = FIRST_SEED
    for other in (*CURRICULUM, *MODELS):
        if other.name == stage.name:
            return first
        first += 10_000_000
    raise ValueError(stage.name)


def rate_of(stage: Stage, step: int) -> float:
    """Return the learning rate of a step of a stage."""
    return falling_rate(stage.rate, stage.final_rate, step, stage.steps)


def falling_rate(rate: float, final: float, step: int, steps: int) -> float:
    """Return a learning rate: a linear warm-up, then a linear fall to `final` times `rate`."""
    return rate * min(1.0, (step + 1) / WARMUP) * (1 - (1 - final) * step / steps)


# ---- parts of a training


def _optimizer(model: Any, rate: float) -> torch.optim.AdamW:
    learned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in learned if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _worker() -> Executor:
    """Return a subprocess that makes batches. A thread would share the GIL with the training."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_start_worker)


def _aims(
    pointer: pointing.Pointer,
    points: Sequence[pointing.Points],
    watch: clock.Clock,
    inputs: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Return the sum of the additional losses of a forward pass: clock and pointing."""
    return clock.WEIGHT * watch.loss(inputs) + pointing.WEIGHT * pointer.loss(points)


def _start_worker() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _update(
    model: Any,
    optimizer: Any,
    inputs: Mapping[str, torch.Tensor],
    rate: float,
    more_loss: Callable[[], torch.Tensor | float] = lambda: 0.0,
) -> Any:
    """Make one update; `more_loss` is called after the forward pass."""
    result = model(**inputs)
    _descend(optimizer, result.loss + more_loss(), rate)
    return result


def _descend(optimizer: Any, loss: torch.Tensor, rate: float) -> None:
    """Make one step of an optimizer with clipped gradients of a loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()
    learned = [each for group in optimizer.param_groups for each in group["params"]]
    torch.nn.utils.clip_grad_norm_(learned, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _save(model: Any, processor: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _checkpoint(out: Path, step: int) -> Path:
    """Return the folder of the weights and the optimizer after a step; `state.json` names it."""
    return out / f"checkpoint-{step}"


def _remove_checkpoints(out: Path, kept: Path | None = None) -> None:
    for folder in out.glob("checkpoint-*"):
        if folder != kept:
            shutil.rmtree(folder)


def _save_optimizer(optimizer: Any, model: Any, file: Path) -> None:
    tensors = {}
    for name, weight in model.named_parameters():
        if weight in optimizer.state:
            for key, value in optimizer.state[weight].items():
                tensors[f"{key} {name}"] = value
    save_file(tensors, file)


def _load_optimizer(optimizer: Any, model: Any, file: Path) -> None:
    weights = dict(model.named_parameters())
    for name, value in load_file(file).items():
        key, _, weight = name.partition(" ")
        optimizer.state[weights[weight]][key] = value


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _log(folder: Path, **row: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": round(time.time()), **row})
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    print(folder.name, line, flush=True)


def _read(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


def _complete(folder: Path) -> bool:
    return (folder / "done.json").is_file()


def _finish(folder: Path, **found: Any) -> None:
    write_text(folder / "done.json", json.dumps({**found, "torch": torch.__version__}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first weights")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's)")
    parser.add_argument("--last", default="", choices=STAGES, help="stop after this stage")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    make_models(arguments.out, arguments.seed, arguments.last)


if __name__ == "__main__":
    main()
