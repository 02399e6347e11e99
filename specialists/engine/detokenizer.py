"""Token ids to text while they arrive. Never releases a part of a character."""

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class IncrementalDetokenizer:
    """Turns the sampled tokens of one sequence into text, special tokens left out.

    The joined text equals the tokenizer's decoding of all tokens at once. Bytes of an unfinished character wait for the
    tokens that finish it; what is still unfinished at the end comes out of `flush` as the replacement character, as
    it does when all is decoded at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._token_ids: list[int] = []
        self._num_released = 0

    def feed(self, token_id: int) -> str:
        self._token_ids.append(token_id)
        text = self._stream.step(self._tokenizer, token_id) or ""
        self._num_released += len(text)
        return text

    def flush(self) -> str:
        whole = self._tokenizer.decode(self._token_ids, skip_special_tokens=True)
        rest = whole[self._num_released :]
        self._num_released = len(whole)
        return rest
