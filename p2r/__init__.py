"""VideoP2R workbench: process-aware video reasoning, from CoT data to PA-GRPO and case studies."""

__version__ = "0.1.0"
