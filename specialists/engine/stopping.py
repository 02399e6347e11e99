"""When a text ends at a stop string. Pure text: no tokens, no torch."""


class StopChecker:
    """Lets text through up to the first stop string, which is not part of the answer.

    Text that may be the beginning of a stop string is held back until it is decided; `flush` lets it go when the
    sequence ends for another reason.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Returns the text that may go out now, and whether a stop string was met."""
        if not self._stop:
            return text, False
        self._held += text
        starts = [start for stop in self._stop if (start := self._held.find(stop)) >= 0]
        if starts:
            released, self._held = self._held[: min(starts)], ""
            return released, True
        keep = max(self._overlap(stop) for stop in self._stop)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released, False

    def flush(self) -> str:
        released, self._held = self._held, ""
        return released

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that is a beginning of `stop`."""
        for length in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:length]):
                return length
        return 0
