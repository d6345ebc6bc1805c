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
