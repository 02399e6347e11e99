"""Tokens in, tokens out: the base model, its LoRA adapters, their training. Knows no routing and no HTTP."""
