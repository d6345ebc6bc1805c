"""The paper's data sets in figures, and what is known of their sources.

Figures: VideoP2R (arXiv 2511.11113), Table 3, and the data release.
"""

from __future__ import annotations

# Table 3: kept traces of VideoP2R-CoT-162K by modality and problem type.
PAPER_KEPT: dict[str, dict[str, int]] = {
    "image": {
        "multiple choice": 47_091,
        "numerical": 18_476,
        "OCR": 4_014,
        "free-form": 2_501,
        "regression": 693,
    },
    "video": {"multiple choice": 86_910, "numerical": 1_371, "free-form": 1_006},
}

# The files of the release and their fields, in the order they are written.
FIELDS = (
    "problem",
    "options",
    "solution",
    "answer",
    "path",
    "data_source",
    "data_type",
    "problem_type",
    "observation",
    "process",
    "output",
    "problem_id",
    "reward",
    "select",
    "clean_version",
)
COT_FILES = tuple(f"VideoP2R-162k_sft.part{k}of2.json.gz" for k in (1, 2))
RL_FILES = tuple(f"VideoP2R-263k_rl.part{k}of3.json.gz" for k in (1, 2, 3))
COT_RECORDS, RL_RECORDS = 162_062, 263_055
LICENSE = "apache-2.0"
PAPER = "https://arxiv.org/abs/2511.11113"

# Publisher's terms of known sources, by the beginning of their name in small letters and digits.
_TERMS = {
    "llavavideo178k": (
        "LLaVA-Video-178K (Zhang et al., 2024)",
        "academic research and education only; answers written by GPT-4o: OpenAI's usage policies",
    ),
    "nextqa": (
        "NExT-QA (Xiao et al., 2021)",
        "annotations MIT; videos of YFCC100M under their own Creative Commons licences",
    ),
    "perceptiontest": ("Perception Test (Pătrăucean et al., 2023)", "CC BY 4.0"),
    "clevrer": ("CLEVRER (Yi et al., 2020)", "CC0"),
    "star": (
        "STAR (Wu et al., 2021)",
        "annotations Apache-2.0; videos of Charades for non-commercial use",
    ),
    "playground": ("the synthetic playground of this project", "Apache-2.0"),
}
UNKNOWN_TERMS = "not recorded here: ask its publisher"


def terms_of(source: str) -> tuple[str, str]:
    """Attribution and licence of a source, as far as they are recorded here."""
    plain = "".join(char for char in source.casefold() if char.isalnum())
    for start, terms in _TERMS.items():
        if plain.startswith(start):
            return terms
    return source or "no source named", UNKNOWN_TERMS


def mix_rows(mix: dict[str, dict[str, int]]) -> list[list[str]]:
    """A table in the shape of the paper's Table 3: modalities down, problem types across, sums."""
    kinds = [*PAPER_KEPT["image"]]
    kinds += sorted({kind for row in mix.values() for kind in row} - set(kinds))
    rows = [["", *kinds, "sum"]]
    for media in ("image", "video"):
        counts = [mix.get(media, {}).get(kind, 0) for kind in kinds]
        rows.append([media, *(f"{n:,}" if n else "–" for n in counts), f"{sum(counts):,}"])
    sums = [sum(row.get(kind, 0) for row in mix.values()) for kind in kinds]
    rows.append(["sum", *(f"{n:,}" if n else "–" for n in sums), f"{sum(sums):,}"])
    return rows
