"""What SFT and RL are made of: plan and memory, the trainer, its judge, its checks and its logs."""
