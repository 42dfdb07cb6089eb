"""Stop strings, found without decoding a completion again at every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONTEXT = 4  # tokens: decoders look back a little


class StopStrings:
    """Looks for the first of some strings in completions that grow token by token."""

    def __init__(self, strings: Sequence[str], tokenizer: Any) -> None:
        self.strings = tuple(s for s in strings if s)
        self._tokenizer = tokenizer
        self._last = {s[-1] for s in self.strings}
        # a token that adds text adds at least a byte
        self._tail = max((len(s.encode()) for s in self.strings), default=0) + CONTEXT
        self._texts: dict[int, str] = {}

    def may_complete(self, token: int) -> bool:
        """Whether a stop string could end in this token.

        Not if its own text lacks all their last characters; but it may hold only a part of a character, and decoders
        add or drop spaces where tokens meet.
        """
        text = self._text(token)
        return not self._last.isdisjoint({*text, " "}) or "\ufffd" in text

    def completed(self, token_ids: Sequence[int]) -> bool:
        """Whether the last token completes a stop string: decodes a short tail, and all of it only after a find."""
        return self._found(self._end(token_ids)) and self._found(token_ids)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        starts = [at for s in self.strings if (at := text.find(s)) >= 0]
        return text[: min(starts)] if starts else text

    def decode(self, token_ids: Sequence[int]) -> str:
        """The tokens' text, without special tokens."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _end(self, token_ids: Sequence[int]) -> Sequence[int]:
        """The last tokens: as many with text as a stop string may need, and those without (special ones) among them."""
        start, wanted = len(token_ids), self._tail
        while start and wanted:
            start -= 1
            wanted -= bool(self._text(token_ids[start]))
        return token_ids[start:]

    def _text(self, token: int) -> str:
        """What the token says alone."""
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = self.decode([token])
        return text

    def _found(self, token_ids: Sequence[int]) -> bool:
        text = self.decode(token_ids)
        return any(s in text for s in self.strings)
