"""LoRA checkpoints: read and refuse, register, place in slots."""
