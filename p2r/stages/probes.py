"""Probes of models of the second world: does an answer follow the note or the video?"""

from __future__ import annotations

from typing import Any

from p2r import data
from p2r.runs import Run, model_fingerprint, read_json, write_json
from p2r.scoring import mean_interval
from p2r.stages.inputs import find_questions, prepare
from p2r.video import FrameCache

SPLIT = "false_notes"


def follow_sources(run: Run, model: str, name: str) -> dict[str, dict[str, Any]]:
    """Return the share of answers that follow a false note, and the share that follow the video.

    The response begins with an observation that contradicts the video (the split "false_notes").
    The other answers follow neither. `probes/NAME.json` keeps the result, with every answer. It is
    made again for another model or other settings of the evaluation.
    """
    file = run.path("probes", f"{name}.json")
    made = {
        "model": model_fingerprint(data.resolve_model(model)),
        "dtype": run.recipe.models.dtype,
        "frames": data.eval_settings(run.recipe.video),
        "max_tokens": run.recipe.eval.max_tokens,
    }
    kept = read_json(file) if file.is_file() else {}
    if {key: kept.get(key) for key in made} != made:
        kept = {**made, "answers": _probe(run, model)}
        write_json(file, kept)
    sources = [answer["source"] for answer in kept["answers"]]
    return {
        f"follows {source}": mean_interval(float(found == source) for found in sources)
        for source in ("note", "video")
    }


def _probe(run: Run, model: str) -> list[dict[str, Any]]:
    from p2r.playground.card import answer_from
    from p2r.playground.truth import source_followed
    from p2r.playground.writer import make_writer
    from p2r.template import parse

    questions, root = find_questions(run, "eval", split=SPLIT)
    prepare(run)
    cache, settings = FrameCache(max_items=1), data.eval_settings(run.recipe.video)
    frames = (data.read_frames(q, root=root, cache=cache, **settings) for q in questions)
    notes = [question.meta["note"] for question in questions]
    loaded = data.load_model(model, run.recipe.models.dtype)
    write = make_writer(loaded, data.load_processor(model), run.recipe.eval.max_tokens)
    texts = answer_from(write, questions, notes, frames)
    answers = [parse(text).answer for text in texts]
    return [
        {
            "question_id": question.id,
            "answer": answer,
            "source": source_followed(question, note, answer),
        }
        for question, note, answer in zip(questions, notes, answers, strict=True)
    ]
