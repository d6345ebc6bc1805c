"""SFT and PA-GRPO on TRL: the step, the trainers, their plan, their checks and their logs.

This package applies the patches that TRL needs, before one of its modules imports TRL.
"""

from p2r.patches import accelerate_fsdp2, torchvision_operators, trl_fsdp2, trl_vllm

torchvision_operators.apply()
accelerate_fsdp2.apply()
trl_vllm.apply()
trl_fsdp2.apply()
