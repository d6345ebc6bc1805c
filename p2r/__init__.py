"""VideoP2R workbench: process-aware video reasoning, from chain-of-thought data to PA-GRPO and case studies."""

__version__ = "0.1.0"
