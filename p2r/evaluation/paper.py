"""The paper's results as data: "VideoP2R: Video Understanding from Perception to Reasoning"
(arXiv 2511.11113 v2). Percentages, as printed there.

Only quoted here, never measured: `p2r.evaluation.report` lays a run beside them and says which is
which.
"""

from __future__ import annotations

SOURCE = "arXiv 2511.11113 v2"
BENCHMARK_COLUMNS = (
    *("vsibench", "videommmu", "mmvu", "vcrbench", "mvbench", "tempcompass", "videomme"),
    "average",
)

Row = dict[str, float]


def _row(*values: float) -> Row:
    return dict(zip(BENCHMARK_COLUMNS, values, strict=True))


# Accuracy on the seven benchmarks, and their average.
TABLE_1: dict[str, Row] = {
    "Qwen2.5-VL-7B": _row(30.1, 48.1, 60.0, 44.3, 59.0, 72.6, 56.6, 52.9),
    "Qwen2.5-VL-72B": _row(37.2, 67.0, 73.4, 54.9, 61.7, 74.9, 64.5, 61.9),
    "Video-R1": _row(35.8, 52.3, 63.8, 49.0, 63.9, 73.2, 59.3, 56.8),
    "VideoChat-R1": _row(33.9, 54.0, 63.0, 49.0, 67.9, 72.5, 57.7, 56.9),
    "Time-R1": _row(29.0, 51.0, 62.9, 49.6, 63.1, 73.7, 59.3, 55.5),
    "VersaVid-R1": _row(33.7, 51.9, 64.3, 49.8, 62.9, 74.0, 58.8, 56.5),
    "VideoRFT": _row(36.8, 51.1, 68.5, 49.6, 62.1, 73.7, 59.8, 57.4),
    "VideoP2R": _row(36.8, 55.0, 65.4, 51.0, 68.1, 74.5, 60.0, 58.7),
    "VideoP2R on Qwen2.5-VL-3B": _row(38.7, 45.3, 58.7, 45.3, 63.2, 66.4, 55.9, 53.3),
}

# Ablations: average of the seven.
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

# The judge: agreement with 200 human labels, and the average after training with it.
TABLE_4: dict[str, Row] = {
    "Llama-3.1-8B": {"agreement": 82.0, "average": 57.4},
    "Llama-3.1-70B": {"agreement": 88.0, "average": 57.6},
    "Llama-3.1-405B": {"agreement": 91.0, "average": 58.0},
    "Claude 3.7 Sonnet": {"agreement": 95.0, "average": 58.7},
}

# Perception as text: what Qwen2.5-VL-7B answers from; average of the seven.
TABLE_5: dict[str, Row] = {
    "video + text": {"average": 52.9},
    "video + text + VideoP2R's observation": {"average": 56.0},
    "video + text + own observation": {"average": 54.9},
    "text": {"average": 35.1},
    "text + VideoP2R's observation": {"average": 55.5},
    "text + own observation": {"average": 48.6},
}

# Think-answer mismatch: multiple choice, read by an LLM; average of the seven.
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

# Difficulty: parts of two benchmarks, under their names in result files.
TABLE_7: dict[str, Row] = {
    "Qwen2.5-VL-7B": {
        "videomme: short": 68.49,
        "videomme: medium": 55.92,
        "videomme: long": 51.06,
        "videommmu: Perception": 68.67,
        "videommmu: Comprehension": 48.67,
        "videommmu: Adaptation": 42.00,
    },
    "VideoP2R": {
        "videomme: short": 70.80,
        "videomme: medium": 59.16,
        "videomme: long": 53.65,
        "videommmu: Perception": 70.33,
        "videommmu: Comprehension": 52.33,
        "videommmu: Adaptation": 44.33,
    },
}

TABLES: dict[str, tuple[str, dict[str, Row]]] = {
    "1": ("accuracy on the seven benchmarks, %", TABLE_1),
    "2": ("ablations: average of the seven, %", TABLE_2),
    "4": ("judges: agreement with people, and average after training, %", TABLE_4),
    "5": ("perception as text: average of the seven, %", TABLE_5),
    "6": ("think-answer mismatch of multiple choice, %", TABLE_6),
    "7": ("by difficulty, %", TABLE_7),
}
