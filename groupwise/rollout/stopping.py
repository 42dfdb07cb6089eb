"""Stop strings, found without decoding a completion again at every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONTEXT = 4  # tokens: decoders look back a little, and special tokens add no text


class StopStrings:
    """Looks for the first of some strings in completions that grow token by token."""

    def __init__(self, strings: Sequence[str], tokenizer: Any) -> None:
        self.strings = tuple(s for s in strings if s)
        self._tokenizer = tokenizer
        self._last = {s[-1] for s in self.strings}
        # an ordinary token adds at least a byte
        self._tail = max((len(s.encode()) for s in self.strings), default=0) + CONTEXT
        self._known: dict[int, bool] = {}

    def may_complete(self, token: int) -> bool:
        """Whether a stop string could end in this token.

        Not if its own text lacks all their last characters; but it may hold only a part of a character, and decoders
        add or drop spaces where tokens meet.
        """
        known = self._known.get(token)
        if known is None:
            text = self.decode([token])
            known = self._known[token] = not self._last.isdisjoint({*text, " "}) or "\ufffd" in text
        return known

    def completed(self, token_ids: Sequence[int]) -> bool:
        """Whether the last token completes a stop string: decodes a short tail, and all of it only after a find."""
        return self._found(token_ids[-self._tail :]) and self._found(token_ids)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        starts = [at for s in self.strings if (at := text.find(s)) >= 0]
        return text[: min(starts)] if starts else text

    def decode(self, token_ids: Sequence[int]) -> str:
        """The tokens' text, without special tokens."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _found(self, token_ids: Sequence[int]) -> bool:
        text = self.decode(token_ids)
        return any(s in text for s in self.strings)
