"""Stop strings, found without decoding a completion again at every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Looks for the first of some strings at the end of a growing completion.

    Only a tail of the completion is decoded, and only when its last token could have completed a stop string: a token
    whose own text lacks every stop string's last character cannot have, unless it is part of a character or the
    stop string ends in a space, which decoders add or drop at token borders.
    """

    def __init__(self, stop: Sequence[str], tokenizer: Any) -> None:
        self.stop = tuple(s for s in stop if s)
        self._tokenizer = tokenizer
        self._last = {s[-1] for s in self.stop}
        # every token but a special one adds at least a byte; the rest is context for decoders that look back
        self._tail = max((len(s.encode()) for s in self.stop), default=0) + 4
        self._may_complete: dict[int, bool] = {}

    def hit(self, token_ids: Sequence[int]) -> bool:
        """Whether the last token completes a stop string."""
        if not self._candidate(token_ids[-1]):
            return False
        tail = self.decode(token_ids[-self._tail :])
        return any(s in tail for s in self.stop)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        starts = [at for s in self.stop if (at := text.find(s)) >= 0]
        return text[: min(starts)] if starts else text

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _candidate(self, token: int) -> bool:
        known = self._may_complete.get(token)
        if known is None:
            text = self.decode([token])
            known = " " in self._last or "\ufffd" in text or any(c in text for c in self._last)
            self._may_complete[token] = known
        return known
