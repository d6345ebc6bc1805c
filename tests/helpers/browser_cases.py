"""A small run for the tests of the case browser: real clips, several stages, hostile texts."""

import json
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np
from PIL import Image
from playwright.sync_api import Page

from p2r.cases.store import write_cases
from p2r.records import Case, ProcessReward, Question, Trace, Verdict
from p2r.video import sample_frames

HOSTILE = (
    "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>' onload='hacked=1"
    "${window.hacked=1}{{value}}</article><svg onload=hacked=1>"
)
# Markdown, invisible characters, and characters that change the order of letters.
UNSEEN = "![x](http://evil.example/a.png) a\u202egnp.exe\u2066 \x07\x1b[31m \u200b**bold**"
TOTAL = 175


def write_clip(path: Path, frames: int = 16) -> Path:
    """Write a clip of a square that moves right: 8 frames per second, 56 x 56."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 56
        stream.pix_fmt = "yuv420p"
        for n in range(frames):
            pixels = np.full((56, 56, 3), 240, np.uint8)
            pixels[20:32, 2 * n : 2 * n + 12] = (220, 40, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def make_case(n: int, path: str = "clips/a.mp4", media: dict | None = None, **fields) -> Case:
    """Return case n. Every second observation is sufficient, every third answer is wrong."""
    observation = f"Square {n} starts at the left edge."
    think = "Its distance from the left edge grows."
    answer = "A" if n % 3 == 2 else "B"
    outer = {name: fields.pop(name) for name in ("accuracy", "verdict") if name in fields}
    case = Case(
        question=Question(
            id=f"q{n:03d}",
            problem=f"Which way does square number {n} move?",
            options=["A. left", "B. right"],
            problem_type="multiple choice",
            path=path,
            answer="B",
            source="playground",
        ),
        trace=Trace(
            **{
                "question_id": f"q{n:03d}",
                "text": f"<observation>{observation}</observation> <think>{think}</think>"
                f"<answer>{answer}</answer>",
                "observation": observation,
                "think": think,
                "answer": answer,
                "completion_tokens": 60,
                "perception_tokens": 40,
                "run": "demo",
                "stage": "sft" if n % 4 else "base",
                "model": "playground/base",
                "sampling": {"temperature": 1.0},
                "media": media or {},
            }
            | fields
        ),
        accuracy=0.0 if n % 3 == 2 else 1.0,
        verdict=Verdict(sufficient=n % 2 == 0, rationale=f"Verdict {n}.", judge="oracle"),
        perception=ProcessReward(accuracy=1.0, format=1.0, length=0.2),
        reasoning=ProcessReward(accuracy=0.0, format=1.0, length=0.0),
        perception_advantage=0.75,
        reasoning_advantage=-0.5,
    )
    return case.model_copy(update=outer)


def make_rollout(k: int, media: dict) -> Case:
    """Return one of four rollouts: sufficient or not, right or wrong, in all combinations."""
    seen, right = k < 2, k % 2 == 0
    case = make_case(200, media=media, rollout=k, step=3, stage="pa_grpo")
    return case.model_copy(
        update={
            "accuracy": float(right),
            "verdict": Verdict(sufficient=seen, rationale=f"Rollout {k}.", judge="oracle"),
            "perception": ProcessReward(accuracy=float(seen), format=1.0, length=0.0),
            "reasoning": ProcessReward(accuracy=float(right), format=1.0, length=0.0),
            "perception_advantage": 0.87 if seen else -0.87,
            "reasoning_advantage": 0.87 if right else -0.87,
        }
    )


def make_hostile_case(text: str = HOSTILE, number: int = 0) -> Case:
    """Return a case with markup in every text."""
    return Case(
        question=Question(
            id=f"evil {number} {text}",
            problem=text,
            options=[text, f"B. {text}"],
            problem_type="multiple choice",
            path=f"../{text}",
            answer=text,
            source=text,
            meta={text: text},
        ),
        trace=Trace(
            question_id=f"evil {number} {text}",
            text=text,
            observation=text,
            think=text,
            answer=text,
            problems=[text],
            run=text,
            stage=text,
            model=text,
            sampling={text: text},
            media={"decoder": text},
        ),
        accuracy=0.0,
        verdict=Verdict(sufficient=False, rationale=text, judge=text, usage={text: text}),
        tags=[text],
    )


def make_long_case() -> Case:
    """Return a case with a megabyte in every segment."""
    text = "endless words " * 75_000
    case = make_case(400, path="clips/absent.mp4")
    case.trace.observation = case.trace.think = text
    case.trace.text = f"<observation>{text}</observation><think>{text}</think><answer>B</answer>"
    return case


def metrics_row(step: int) -> dict:
    """Return the metrics of an RL step."""
    return {
        "step": step,
        "perception/accuracy": 0.5 + step / 100,
        "perception/format": 1.0,
        "perception/length_bonus": 0.1,
        "reasoning/accuracy": 0.4,
        "reasoning/format": 1.0,
        "reasoning/length_bonus": 0.1,
        "perception/collapse": 0.25,
        "reasoning/collapse": 0.5,
        "joint/collapse": 0.1,
        "perception/tokens": 36.0,
        "reasoning/tokens": 27.0,
        "truncated": 0.0,
        "step_time": 3.0,
        "time/generate": 1.5,
        "time/judge": 0.5,
    }


def interval(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n": 100}


def make_run(run: Path) -> Path:
    """Make a run with the stages base, sft and pa_grpo, three evaluations, and damaged cases."""
    clip = write_clip(run / "media" / "clips" / "a.mp4")
    (run / "media" / "clips" / "broken.mp4").write_bytes(b"no video")
    Image.new("RGB", (120, 80), "teal").save(run / "media" / "clips" / "picture.png")
    (run / "secret.txt").write_text("secret")
    media = sample_frames(clip, max_frames=8, max_pixels=3136, factor=14).info()
    cases = [make_case(n, media=media) for n in range(120)]
    cases += [make_rollout(k, media) for k in range(4)]
    cases += [make_case(200, media=media)]
    for place, stage in enumerate(("eval-base", "eval-sft", "eval-pa_grpo")):
        for n in range(500, 512):
            seen = f"Square {n} moves {'left' if place == 0 else 'right'} for {place} s."
            right = n % 3 < place
            case = make_case(n, media=media, stage=stage, accuracy=float(right), observation=seen)
            cases.append(case)
    cases += [
        make_case(301, "clips/absent.mp4"),
        make_case(302, "clips/broken.mp4"),
        make_case(303, "../secret.txt"),
        make_case(304, media=media | {"indices": [0, 1]}),
        make_case(305, problems=["think missing"], think=None, truncated=True),
        make_case(306, media=media | {"max_frames": -1, "factor": "x"}),
        make_hostile_case(),
        make_hostile_case(UNSEEN, 1),
        make_long_case(),
    ]
    picture = make_case(307, "clips/picture.png")
    picture.question.data_type = "image"
    mismatched = make_case(308, media=media)
    mismatched = mismatched.model_copy(update={"tags": ["mismatch"], "accuracy": 1.0})
    mismatched.verdict.sufficient = True
    unjudged = make_case(309, media=media, verdict=Verdict(sufficient=None, judge="oracle"))
    elsewhere = [make_case(n, media=media, run="other") for n in (1, 2)]
    write_cases(run, [*cases, picture, mismatched, unjudged, *elsewhere])
    stage = run / "pa_grpo"
    stage.mkdir()
    rows = [json.dumps(metrics_row(step)) for step in range(1, 6)]
    (stage / "metrics.jsonl").write_text("\n".join(rows) + '\n{"step": 6, "half')
    (run / "eval").mkdir()
    for name, mean in (("base", 0.2), ("<b>sft</b>", 0.6)):
        file = run / "eval" / f"{name.replace('/', '_')}.json"
        file.write_text(json.dumps({"metrics": {"accuracy": interval(mean)}}))
    (run / "eval" / "torn.json").write_text('{"metrics": {')
    return run


def case_id(n: int, stage: str = "sft", step: int = 0, rollout: int = 0) -> str:
    return f"demo/{stage}/{step}/q{n:03d}/{rollout}"


def link(address: str, case: str = "", **query: str) -> str:
    """Return the address of a case, or of another state of the browser."""
    pairs = ({"case": case} if case else {}) | query
    return f"{address}?" + "&".join(f"{name}={quote(value)}" for name, value in pairs.items())


def settle(page: Page) -> None:
    """Wait until a page has loaded and changes no more."""
    page.wait_for_function(
        """() => !document.querySelector('#browser.loading, [data-frames] > .absent')
            && !document.querySelector('#page').getAnimations({subtree: true}).length"""
    )
