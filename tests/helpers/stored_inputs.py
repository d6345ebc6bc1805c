"""Writes small files of outputs and questions in the odd shapes that people store."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DUNK = "What is the man doing?\nA. dunking a ball\nB. passing it"
CAPTION = "Which one fits?\nCaption A: The man sits.\nCaption B: A man jumps."
SEVERAL = [{"question_id": f"00{k}-1", "prediction": "A", "answer": "A"} for k in range(5)]


def write_inputs(folder: Path) -> Path:
    """Write every file into a folder and return the folder."""
    for name, value in _JSON.items():
        lines = name.endswith(".jsonl")
        text = "\n".join(map(json.dumps, value)) if lines else json.dumps(value)
        (folder / name).write_text(text)
    text = json.dumps(SEVERAL)
    (folder / "bom.json").write_bytes(text.encode("utf-8-sig"))
    (folder / "u16.json").write_bytes(text.encode("utf-16"))
    lines = "\n".join(map(json.dumps, SEVERAL))
    (folder / "preds.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "preds.csv").write_text("question_id,prediction,answer\n001-1,A,A\n")
    pq.write_table(pa.Table.from_pylist(SEVERAL), folder / "preds.parquet")
    (folder / "zeros.json").write_bytes(bytes(100))
    return folder


def _tempcompass(question: str, answer: str, outputs: list[str]) -> dict:
    records = [{"question": question, "answer": answer, "prediction": said} for said in outputs]
    return {"1.mp4": {"action": records}}


def _conditions() -> list[dict]:
    return [
        {"question_id": f"00{k}-1", "condition": name, "ground_truth": "A", "prediction": said}
        for k in range(3)
        for name, said in (("original", "A"), ("black", "B"))
    ]


_COUNT = {"question": "How many?", "question_type": "object_counting"}
_OPTIONS = ["walk", "run", "sit", "eat", "sleep"]
_JSON = {
    "tc_yes_no.json": _tempcompass("Is he up?", "yes", ["Yes.", " Yes.", "\nyes"]),
    "tc_multi-choice.json": _tempcompass(
        DUNK, "A. dunking a ball", ["A. dunking a ball", " A. dunking a ball", "A\n", " A"]
    ),
    "tc_caption_matching.json": _tempcompass(
        CAPTION, "Caption B: A man jumps.", ["Caption B", "A man jumps. ", "B", "B.", " Caption B."]
    ),
    "same_id.jsonl": [
        {"id": "7", "category": "action", "question": q, "answer": a, "filtered_resps": [said]}
        for q, a, said in (
            ("Is he dunking?", "yes", "yes"),
            ("Is he running?", "no", "yes"),
            ("Is he sitting?", "no", "yes"),
            ("Is it a ball?", "yes", "no"),
        )
    ],
    "float_ids.json": [
        {"problem_id": 76.0, "problem_type": "free-form", "problem": text, "solution": "two"}
        for text in ("How many?", "Is there a man?", "Where is it?")
    ],
    "index.jsonl": [
        {
            "question_id": f"v_{k}",
            "question": "?",
            "options": _OPTIONS,
            "answer": k,
            "prediction": k,
        }
        for k in range(4)
    ],
    "index_plain.json": {f"v_{k}": {"prediction": k, "answer": k} for k in range(4)},
    "conditions.jsonl": _conditions(),
    "eval_mvbench.json": [
        {"problem": "What?", "options": ["A. x", "B. y"], "solution": "B", "problem_id": 1}
    ],
    "eval_mvbench_greedy_output.json": {
        "results": [
            {
                "problem_id": 1,
                "problem": "What?",
                "options": ["A. x", "B. y"],
                "solution": "<answer>B</answer>",
                "output": "<think>t</think>\n<answer>B</answer>",
                "prediction": "B",
                "reward": 1.0,
            }
        ]
    },
    "perception_video.json": {
        "Perception": {
            "0": {"id": "dev_Biology_3", "question": "?", "options": ["3", "4"], "answer": "B"}
        }
    },
    "vsi_q.json": {
        "questions": [
            {"question": "How many?", "question_type": "object_counting", "ground_truth": "4"}
        ]
    },
    "vsi_out.json": {
        "questions": [
            {"question": "How many?", "question_type": "object_counting", "x_answer": "3"}
        ]
    },
}
