"""Keep transformers from importing mistral-common for every processor.

Library: transformers 5.17.
Reason: a processor checks that its tokenizer is one of two classes. One of them belongs to Mistral,
so making any processor imports mistral-common where it is installed, as it is with vLLM. That takes
two seconds of every OS process.
Can go when: making a Qwen processor no longer imports mistral-common.
"""

from __future__ import annotations

from typing import Any

from p2r.patches.on_import import after_import


def apply() -> None:
    """Let processors accept the usual tokenizers only, in this OS process."""
    after_import("transformers.processing_utils", forget_mistral)


def forget_mistral(module: Any) -> None:
    """Take Mistral's tokenizer out of the classes that `transformers.processing_utils` checks."""
    module.MODALITY_TO_BASE_CLASS_MAPPING["tokenizer"] = "PreTrainedTokenizerBase"
