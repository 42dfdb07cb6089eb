"""The page, section by section. To add one: `build` in a file here, a template in assets/sections, a line below."""

from groupwise.report.sections import checks, curves, gains, overview, recipe, rollouts
from groupwise.report.sections.base import Builder, Section

SECTIONS: tuple[Builder, ...] = (
    overview.build,
    gains.build,
    checks.build,
    curves.build,
    rollouts.build,
    recipe.build,
)

__all__ = ["SECTIONS", "Builder", "Section"]
