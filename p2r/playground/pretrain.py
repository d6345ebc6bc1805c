"""How the shipped tiny models were made: `python -m p2r.playground.pretrain --out FOLDER`.

From scratch, on scenes drawn on the fly whose seeds no split uses:
1. *see*, *scenes*: captions of one or two plain objects, then of whole scenes;
2. *skills*, *practice*: captions, direct answers, look-up in text and traces in the template, of
   every habit of describing;
3. *objects*, *pairs*, *events*: captions of few objects, of pairs without events, then of whole
   scenes again: in a crowd, a model that has not met them alone learns neither ways nor times;
4. *names*, *fluency*, *polish*: what is asked of by name, choices among options, traces;
5. **teacher**: traces that tell what the question needs more often than not, and needless facts;
6. **base**: captions, and descriptions before an answer, that tell few facts, whatever the question
   is; direct answers to the prompt of the template. It sees and can look up, but its habit of
   describing is sparse and untargeted: the place of Qwen2.5-VL-7B-Instruct.
Held-out scores are written beside the weights (`card.json`). A stage whose folder is there is
not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from p2r import data, template
from p2r.playground.language import (
    COMPLETE,
    TARGETED,
    Asked,
    Fact,
    Habit,
    ask,
    describe,
    observe,
    tell,
    think,
)
from p2r.playground.oracle import OracleJudge
from p2r.playground.tiny_model import build_model, build_processor, build_tokenizer
from p2r.playground.world import (
    BACKGROUND,
    FPS,
    STAGE,
    TICKS,
    Scene,
    render,
    sample_scene,
    ticks,
)
from p2r.records import Question
from p2r.scoring import accuracy
from p2r.video import Frames

FIRST_SEED = 100_000_000  # the splits' seeds lie below
HELD_OUT_SEED = 90_000_000
TEACHER = Habit(needed=0.8, needless=0.4)
BASE = Habit(needed=0.3, needless=0.3)
HABITS = (COMPLETE, COMPLETE, TARGETED, TEACHER, Habit(needed=0.5, needless=0.5))  # to learn from
STEPS = {
    "see": 350,
    "scenes": 650,
    "skills": 1200,
    "objects": 500,
    "practice": 1500,
    "pairs": 250,
    "events": 450,
    "rehearsal": 450,
    "names": 450,
    "fluency": 700,
    "polish": 600,
    "teacher": 120,
    "base": 220,
}
BATCH = 24
STYLE = "brief"
SLOW = 4.0  # the first scenes move more slowly (stage units per second)
CAPTION = "Describe the video."

Example = tuple[Scene | None, Question, str]  # scene, question, response


def to_question(asked: Asked, id: str = "") -> Question:
    return Question(
        id=id,
        problem=asked.problem,
        options=asked.options,
        problem_type=asked.problem_type,
        answer=asked.answer,
    )


def caption(scene: Scene, rng: random.Random, habit: Habit = COMPLETE) -> Example:
    question = Question(id="", problem=CAPTION, problem_type="free-form")
    return scene, question, describe(scene, rng, habit, frozenset())


def by_name(scene: Scene, rng: random.Random) -> Example:
    """All objects in any order, as the prompt names them."""
    facts = [Fact.of(obj) for obj in scene.objects]
    rng.shuffle(facts)
    problem = f"Describe the {' and the '.join(fact.name for fact in facts)}."
    question = Question(id="", problem=problem, problem_type="free-form")
    return scene, question, " ".join(map(tell, facts))


def direct_answer(scene: Scene, rng: random.Random) -> Example:
    asked = ask(scene, rng)
    return scene, to_question(asked), asked.answer


def look_up(
    scene: Scene, rng: random.Random, only: str | None = None
) -> tuple[None, Question, str]:
    """The facts as text instead of the video: what remains is to look up, count and compare.

    `only`: questions of this problem type.
    """
    asked = ask(scene, rng)
    while only and asked.problem_type != only:
        asked = ask(scene, rng)
    question = to_question(asked)
    question.problem = f"{describe(scene, rng, COMPLETE, asked.needs)} {question.problem}"
    return None, question, template.render(None, think(asked), asked.answer)


def trace(scene: Scene, rng: random.Random, habit: Habit) -> Example:
    asked = ask(scene, rng)
    response = template.render(observe(scene, asked, rng, habit), think(asked), asked.answer)
    return scene, to_question(asked), response


def described_answer(scene: Scene, rng: random.Random, habit: Habit) -> Example:
    """A trace where a description is asked for before the answer."""
    _, question, response = trace(scene, rng, habit)
    question.problem = f"{CAPTION} {question.problem}"
    return scene, question, response


def corpus(count: int = 3000) -> Iterator[str]:
    """Text for the tokenizer: prompts and responses of every kind."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        rng = random.Random(seed)
        _, question, response = trace(sample_scene(seed), rng, COMPLETE)
        yield template.build_prompt(question, STYLE) + "\n" + response
        yield template.build_prompt(question, "direct")
    yield from [f"user\n{CAPTION}", "assistant\n", *map(str, range(10))] * 50


def draw(
    scene: Scene,
    rng: random.Random | None = None,
    scale: int = 4,
    grid: tuple[int, int] = (56, 56),
    backdrop: bool = False,
) -> Frames:
    """The 8 frames the model sees, without the detour over a video file.

    Drawn `scale` times as large, or larger, and averaged down to the height and width of `grid`;
    with `rng`, a little noise for robustness; with `backdrop`, before a random grey gradient.
    """
    seconds = ticks()[::2]
    side = math.lcm(scale * STAGE, *grid)
    drawn = render(scene, seconds, side=side)
    if backdrop:
        greys = torch.tensor([[rng.uniform(25, 140) for _ in range(2)] for _ in range(2)])
        tint = torch.tensor([rng.uniform(-15, 15) for _ in range(3)])
        corners = greys + tint[:, None, None]  # (3, 2, 2): one colour for each corner
        behind = interpolate(corners[None], (side, side), mode="bilinear")[0]
        empty = (drawn == np.array(BACKGROUND)).all(-1, keepdims=True)
        drawn = np.where(empty, behind.permute(1, 2, 0).numpy(), drawn)
    height, width = grid
    drawn = drawn.reshape(8, height, side // height, width, side // width, 3).mean((2, 4))
    if rng is not None:
        noise = torch.randn(
            drawn.shape, generator=torch.Generator().manual_seed(rng.getrandbits(31))
        )
        drawn = drawn + 3 * noise.numpy()
    frames = drawn.round().clip(0, 255).astype("uint8")
    return Frames(
        frames=frames,
        timestamps=seconds,
        indices=list(range(0, TICKS, 2)),
        fps=float(FPS),
        duration=TICKS / FPS,
        total_frames=TICKS,
        decoder="drawn",
        path="",
        max_frames=8,
        max_pixels=56 * 56,
        factor=14,
    )


def draw_strange(scene: Scene, rng: random.Random) -> Frames:
    """As `draw`, on one of the grids of other clips and before another background."""
    return draw(scene, rng, 3, rng.choice(((42, 56), (56, 42), (56, 56))), backdrop=True)


def style_of(question: Question, rng: random.Random, response: str) -> str:
    """The prompt style that asks for a response of this form."""
    starts = {"<observation>": STYLE, "<think>": f"{STYLE}-think"}
    return next((style for tag, style in starts.items() if response.startswith(tag)), "direct")


def train(
    model,
    processor,
    make: Callable[[int], Example],
    steps: int,
    rate: float,
    *,
    first: int,
    scale: int = 2,
    style: Callable = style_of,
    name: str = "",
    warmup: int = 50,
    final: float = 0.05,
    strange: float = 0.0,
) -> None:
    """AdamW with a cosine schedule on `make(seed)` for fresh seeds from `first` on.

    A share `strange` of the scenes is drawn on other grids and backgrounds.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))

    def batch(step: int) -> dict[str, torch.Tensor]:
        examples = []
        for seed in range(first + step * BATCH, first + (step + 1) * BATCH):
            rng = random.Random(f"pixels {seed}")
            scene, question, response = make(seed)
            chosen = style(question, rng, response)
            frames = None
            if scene is not None and strange and rng.random() < strange:
                frames = draw_strange(scene, rng)
            elif scene is not None:
                frames = draw(scene, rng, scale)
            examples.append(data.encode_example(processor, question, frames, response, chosen))
        return data.collate_examples(examples, processor.tokenizer.pad_token_id)

    model.train()
    start = time.time()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(batch, 0)
        for step in range(steps):
            inputs = following.result()
            following = pool.submit(batch, step + 1)
            decay = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / warmup) * decay
            loss = model(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % 50 == 0 or step == steps - 1:
                pace = (time.time() - start) / (step + 1)
                print(f"{name} {step}/{steps} loss {loss.item():.4f} {pace:.2f} s/step", flush=True)
    model.eval()


@torch.no_grad()
def score(model, processor, count: int = 300, style: str = STYLE) -> dict[str, float]:
    """Held-out scores, greedy: answers, sufficient observations, format, true sentences."""
    rights, sufficient, told, formats = [], [], [], []
    for start in range(0, count, 50):
        scenes = [sample_scene(HELD_OUT_SEED + i) for i in range(start, start + 50)]
        rngs = [random.Random(f"ask {start + i}") for i in range(50)]
        questions = [to_question(ask(s, r)) for s, r in zip(scenes, rngs, strict=True)]
        batch = data.encode_prompts(processor, questions, [draw(s) for s in scenes], style)
        inputs = data.to_model_inputs(batch)
        out = model.generate(**inputs, max_new_tokens=170, do_sample=False)
        texts = processor.tokenizer.batch_decode(
            out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        parsed = [template.parse(text) for text in texts]
        verdicts = OracleJudge().judge(questions, [p.observation or "" for p in parsed])
        for scene, question, text, segments, verdict in zip(
            scenes, questions, texts, parsed, verdicts, strict=True
        ):
            answer = template.answer_of(text)
            rights.append(
                accuracy(question.problem_type, answer, question.answer, question.options or None)
            )
            sufficient.append(bool(verdict.sufficient))
            formats.append(segments.ok)
            seen = describe(scene, random.Random(0), COMPLETE, frozenset()).split(". ")
            said = (segments.observation or "").split(". ")[1:]
            told += [sentence.rstrip(".") in [s.rstrip(".") for s in seen] for sentence in said]
    mean = lambda values: round(sum(values) / max(1, len(values)), 4)  # noqa: E731
    return {
        "n": count,
        "accuracy": mean(rights),
        "sufficient": mean(sufficient),
        "format": mean(formats),
        "sentences_true": mean(told),
        "sentences": len(told),
    }


def _skills(seed: int) -> Example:
    scene, rng = sample_scene(seed), random.Random(f"talk {seed}")
    part = rng.random()
    if part < 0.4:
        return caption(scene, rng)
    if part < 0.55:
        return direct_answer(scene, rng)
    return _trace_of_any_habit(scene, rng)


def _objects(seed: int) -> Example:
    return caption(sample_scene(seed, max_objects=1, signs=False), random.Random(f"talk {seed}"))


def _pairs(seed: int) -> Example:
    scene = sample_scene(seed, max_objects=2, events=False, signs=False)
    return caption(scene, random.Random(f"talk {seed}"))


def _events(seed: int) -> Example:
    few = random.Random(f"kind {seed // BATCH}").random() < 0.4
    scene = sample_scene(seed, max_objects=2, signs=False) if few else sample_scene(seed)
    return caption(scene, random.Random(f"talk {seed}"))


def _practice(seed: int) -> Example:
    """A batch at a time of one kind, so that short ones cost little: captions of single objects,
    look-up in a text without a video, traces, direct answers.
    """
    rng = random.Random(f"talk {seed}")
    kind = random.Random(f"kind {seed // BATCH}").choices("olta", (0.2, 0.25, 0.45, 0.1))[0]
    if kind == "o":
        return _objects(seed)
    scene = sample_scene(seed)
    if kind == "l":
        return look_up(scene, rng)
    return direct_answer(scene, rng) if kind == "a" else _trace_of_any_habit(scene, rng)


def _names(seed: int) -> Example:
    scene, rng = sample_scene(seed), random.Random(f"talk {seed}")
    kind = random.Random(f"kind {seed // BATCH}").choices("nlt", (0.45, 0.25, 0.3))[0]
    if kind == "n":
        return by_name(scene, rng)
    if kind == "l":
        return look_up(scene, rng, "multiple choice")
    return _trace_of_any_habit(scene, rng)


def _fluency(seed: int) -> Example:
    scene, rng = sample_scene(seed), random.Random(f"talk {seed}")
    kind = random.Random(f"kind {seed // BATCH}").choices("nltc", (0.35, 0.15, 0.35, 0.15))[0]
    if kind == "n":
        return by_name(scene, rng)
    if kind == "l":
        return look_up(scene, rng, "multiple choice")
    if kind == "c":
        return caption(scene, rng)
    return _trace_of_any_habit(scene, rng)


def _trace_of_any_habit(scene: Scene, rng: random.Random) -> Example:
    return trace(scene, rng, rng.choice(HABITS))


def _see(seed: int) -> Example:
    scene = sample_scene(seed, max_objects=2, events=False, signs=False, speed=SLOW)
    return caption(scene, random.Random(seed))


def _scenes(seed: int) -> Example:
    return caption(sample_scene(seed, speed=SLOW), random.Random(seed))


CURRICULUM: dict[str, Callable[[int], Example]] = {
    "see": _see,
    "scenes": _scenes,
    "skills": _skills,
    "objects": _objects,
    "practice": _practice,
    "pairs": _pairs,
    "events": _events,
    "rehearsal": _practice,
    "names": _names,
    "fluency": _fluency,
    "polish": _fluency,
}
STRANGE = {  # share of examples on foreign backgrounds and grids
    "practice": 0.15,
    "rehearsal": 0.15,
    "fluency": 0.1,
    "polish": 0.1,
    "teacher": 0.15,
    "base": 0.15,
}


def _base(seed: int) -> Example:
    scene, rng = sample_scene(seed), random.Random(f"talk {seed}")
    kind = rng.choices("cda", (0.15, 0.4, 0.45))[0]
    if kind == "c":
        return caption(scene, rng, BASE)
    return described_answer(scene, rng, BASE) if kind == "d" else direct_answer(scene, rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out: Path = arguments.out
    card = {"seed": arguments.seed, "steps": STEPS, "batch": BATCH, "torch": torch.__version__}

    first, before = FIRST_SEED, None
    for name, make in CURRICULUM.items():
        if not (out / name).is_dir():
            if before is None:
                processor = build_processor(build_tokenizer(corpus()))
                model = build_model(processor.tokenizer, arguments.seed)
            else:
                processor = data.load_processor(out / before)
                model = data.load_model(out / before, "float32")
            train(
                model,
                processor,
                make,
                STEPS[name],
                1e-3,
                first=first,
                name=name,
                final=0.1,
                strange=STRANGE.get(name, 0.0),
            )
            _save(model, processor, out / name)
        first += STEPS[name] * BATCH
        before = name

    processor = data.load_processor(out / before)
    first = FIRST_SEED + 10_000_000
    kinds: dict[str, Callable[[int], Example]] = {
        "teacher": lambda seed: trace(sample_scene(seed), random.Random(f"talk {seed}"), TEACHER),
        "base": _base,
    }
    for name, make in kinds.items():
        if (out / name / "card.json").is_file():
            first += STEPS[name] * BATCH
            continue
        model = data.load_model(out / before, "float32")
        # The base answers directly under either prompt; captions have a prompt of their own.
        style = style_of if name == "teacher" else lambda q, rng, r: rng.choice((STYLE, "direct"))
        train(
            model,
            processor,
            make,
            STEPS[name],
            2e-4,
            first=first,
            scale=4,
            style=style,
            name=name,
            strange=STRANGE[name],
        )
        first += STEPS[name] * BATCH
        scores = {s: score(model, processor, style=s) for s in (STYLE, "direct")}
        print(name, scores, flush=True)
        _save(model.to(torch.bfloat16), processor, out / name)
        (out / name / "card.json").write_text(json.dumps({**card, "held_out": scores}, indent=1))


def _save(model, processor, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
