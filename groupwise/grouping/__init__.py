"""Which rollouts are compared with which. Sees keys and arrays only."""

from groupwise.grouping.by_prompt import by_prompt

__all__ = ["by_prompt"]
