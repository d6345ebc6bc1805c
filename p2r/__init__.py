"""VideoP2R workbench: process-aware video reasoning, from CoT data to PA-GRPO and case studies."""

from p2r.patches import imports as compat

__version__ = "0.1.0"

compat.install()
