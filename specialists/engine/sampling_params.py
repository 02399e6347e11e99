"""How one request wants its tokens chosen and when it wants to end. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling settings of one request.

    `temperature` 0 is greedy. `top_k` 0 and `top_p` 1 keep every token. `seed` None draws a fresh one.
    `stop` strings end the text and are not part of it. `ignore_eos` keeps going past the model's own end
    tokens until `max_tokens`.

    Raises ValueError naming the field when a value is out of range.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature must be between 0 and 2, got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all) or more, got {self.top_k}")
        if any(not text for text in self.stop):
            raise ValueError("stop must not hold an empty string")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0
