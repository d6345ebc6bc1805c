"""The numbers of the paper's data sets, and the terms of their sources.

Figures: VideoP2R (arXiv 2511.11113), Table 3, and the data release.
"""

from __future__ import annotations

import re

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
CITATION = f"VideoP2R: Video Understanding from Perception to Reasoning, {PAPER}"

# Terms of known sources, as their publishers state them: dataset card of LLaVA-Video-178K, LICENSE
# of NExT-QA, READMEs of Perception Test and CLEVRER; STAR states none. The key is the beginning of
# the source's name, in small letters and digits.
_TERMS = {
    "llavavideo178k": (
        "LLaVA-Video-178K (Zhang et al., 2024)",
        "Apache-2.0, for academic research and education only; texts written by GPT-4: OpenAI's "
        "usage policies",
    ),
    "nextqa": (
        "NExT-QA (Xiao et al., 2021)",
        "annotations MIT; videos of VidOR (YFCC100M): see the source",
    ),
    "perceptiontest": ("Perception Test (Pătrăucean et al., 2023)", "CC BY 4.0"),
    "clevrer": ("CLEVRER (Yi et al., 2020)", "CC0"),
    "star": (
        "STAR (Wu et al., 2021)",
        "annotations: see the source; videos of Charades under their own licence",
    ),
    "imagesetsofvideor1": (
        "collected by Video-R1 (Feng et al., 2025)",
        "the terms of each original set: see the source",
    ),
    "playground": ("the synthetic playground of this project", "Apache-2.0"),
}
UNKNOWN_TERMS = "not known to p2r: ask the publisher"


def terms_of(source: str) -> tuple[str, str]:
    """Return the attribution and the licence of a source, or say that they are not known."""
    words = re.findall(r"[^\W_]+", source.casefold())
    starts = {"".join(words[:count]) for count in range(1, len(words) + 1)}
    for name, terms in _TERMS.items():
        if name in starts:
            return terms
    return source or "no source named", UNKNOWN_TERMS


def mix_rows(mix: dict[str, dict[str, int]]) -> list[list[str]]:
    """Return a table like the paper's Table 3: a row per modality, a column per problem type."""
    kinds = [*PAPER_KEPT["image"]]
    kinds += sorted({kind for row in mix.values() for kind in row} - set(kinds))
    rows = [["", *kinds, "sum"]]
    for media in ("image", "video"):
        counts = [mix.get(media, {}).get(kind, 0) for kind in kinds]
        rows.append([media, *(f"{n:,}" if n else "–" for n in counts), f"{sum(counts):,}"])
    sums = [sum(row.get(kind, 0) for row in mix.values()) for kind in kinds]
    rows.append(["sum", *(f"{n:,}" if n else "–" for n in sums), f"{sum(sums):,}"])
    return rows
