"""What the fork server of `forks.py` imports."""

import gc
import os
from contextlib import suppress

import p2r.training  # isort: skip  (first: it applies the patches that TRL needs)

import anthropic  # noqa: F401
import datasets  # noqa: F401
import genai_prices  # noqa: F401
import peft  # noqa: F401
import pytest  # noqa: F401
import small_rl  # noqa: F401
from transformers import (  # noqa: F401
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

import p2r.cli
import p2r.judges.kinds.claude
import p2r.pipeline
import p2r.stages.demo
import p2r.training.grpo
import p2r.training.sft  # noqa: F401

os.environ["DS_ACCELERATOR"] = "cpu"
with suppress(ImportError):  # accelerate imports it if it is installed
    import deepspeed  # noqa: F401

gc.collect()
gc.freeze()  # forks share these objects
