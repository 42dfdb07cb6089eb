"""What a section is, and who builds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from groupwise.report.reading import Run


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: `assets/sections/<id>.html.j2`, filled with `context` (as `section.context` there)."""

    id: str  # also the anchor on the page
    title: str  # in the navigation and as the heading
    context: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None  # plain JSON for the section's scripts, as GW.data(id)
    scripts: tuple[str, ...] = ()  # files in assets/, loaded in this order, each once a page


# A section of this run, or None where the run has nothing for it.
Builder = Callable[[Run], Section | None]
