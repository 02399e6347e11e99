"""Tasks with their prompts and graders, written once for reward, evaluation and gate."""
