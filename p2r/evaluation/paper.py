"""The results that the paper prints: "VideoP2R: Video Understanding from Perception to Reasoning".

Source: arXiv 2511.11113 v2, in percent. These values are quoted, never measured. The columns of
Table 1 and the values of Table 7 are in the files of the benchmarks (`PaperColumn`).
"""

from __future__ import annotations

from p2r.evaluation.benchmark import PaperColumn
from p2r.evaluation.benchmarks import all_benchmarks

SOURCE = "arXiv 2511.11113 v2"

Row = dict[str, float]

# Table 1: the average of the seven benchmarks.
AVERAGES: Row = {
    "Qwen2.5-VL-7B": 52.9,
    "Qwen2.5-VL-72B": 61.9,
    "Video-R1": 56.8,
    "VideoChat-R1": 56.9,
    "Time-R1": 55.5,
    "VersaVid-R1": 56.5,
    "VideoRFT": 57.4,
    "VideoP2R": 58.7,
    "VideoP2R on Qwen2.5-VL-3B": 53.3,
}

# Ablations: the average of the seven.
TABLE_2: dict[str, Row] = {
    name: {"average": value}
    for name, value in {
        "Qwen2.5-VL-7B": 52.9,
        "SFT only": 55.6,
        "RL only": 56.0,
        "process-agnostic SFT": 53.5,
        "process-aware SFT": 55.6,
        "process-agnostic RL (GRPO)": 56.4,
        "without R_R": 55.3,
        "without R_P": 56.4,
        "without R_len": 57.7,
        "without separation of the processes": 57.4,
        "VideoP2R": 58.7,
    }.items()
}

# Judges: agreement with 200 human labels, and the average after training with the judge.
TABLE_4: dict[str, Row] = {
    "Llama-3.1-8B": {"agreement": 82.0, "average": 57.4},
    "Llama-3.1-70B": {"agreement": 88.0, "average": 57.6},
    "Llama-3.1-405B": {"agreement": 91.0, "average": 58.0},
    "Claude 3.7 Sonnet": {"agreement": 95.0, "average": 58.7},
}

# Perception as text: the inputs that Qwen2.5-VL-7B answers from; average of the seven.
TABLE_5: dict[str, Row] = {
    "video + text": {"average": 52.9},
    "video + text + VideoP2R's observation": {"average": 56.0},
    "video + text + own observation": {"average": 54.9},
    "text": {"average": 35.1},
    "text + VideoP2R's observation": {"average": 55.5},
    "text + own observation": {"average": 48.6},
}

# Think-answer mismatch of multiple choice, read by an LLM; average of the seven.
TABLE_6: dict[str, Row] = {
    name: {"mismatch": value}
    for name, value in {
        "Qwen2.5-VL-7B": 6.3,
        "Video-R1 SFT": 1.6,
        "VideoRFT SFT": 5.2,
        "VideoP2R SFT": 1.5,
        "Video-R1": 21.5,
        "VideoChat-R1": 11.7,
        "VersaVid-R1": 15.5,
        "VideoRFT": 16.9,
        "VideoP2R": 7.5,
    }.items()
}

TITLES = {
    "1": "accuracy on the seven benchmarks, %",
    "2": "ablations: average of the seven, %",
    "4": "judges: agreement with people, and average after training, %",
    "5": "perception as text: average of the seven, %",
    "6": "think-answer mismatch of multiple choice, %",
    "7": "by difficulty, %",
}


def paper_columns() -> dict[str, PaperColumn]:
    """Return the columns of the paper's seven benchmarks by name, in the paper's order."""
    entries = all_benchmarks().values()
    columns = {entry.name: entry.paper for entry in entries if entry.paper is not None}
    return dict(sorted(columns.items(), key=lambda item: item[1].place))


def table_1() -> dict[str, Row]:
    """Return Table 1: by model, the accuracy on each benchmark and the average."""
    rows: dict[str, Row] = {model: {} for model in AVERAGES}
    for name, column in paper_columns().items():
        for model, value in zip(AVERAGES, column.accuracy, strict=True):
            rows[model][name] = value
    return {model: {**row, "average": AVERAGES[model]} for model, row in rows.items()}


def table_7() -> dict[str, Row]:
    """Return Table 7: by model, the accuracy on the parts of benchmarks, as "NAME: PART"."""
    rows: dict[str, Row] = {"Qwen2.5-VL-7B": {}, "VideoP2R": {}}
    for name, column in reversed(paper_columns().items()):
        for part, values in column.difficulty.items():
            for row, value in zip(rows.values(), values, strict=True):
                row[f"{name}: {part}"] = value
    return rows


def quoted_tables() -> dict[str, dict[str, Row]]:
    """Return the rows of every table that the report shows, by its number."""
    return {
        "1": table_1(),
        "2": TABLE_2,
        "4": TABLE_4,
        "5": TABLE_5,
        "6": TABLE_6,
        "7": table_7(),
    }
