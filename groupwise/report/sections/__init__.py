"""The page, section by section. To add one: `build` in a file here, a template in assets/sections, a line below."""

from groupwise.report.sections import checks, curves, gains, groups, overview, profile, prompts, recipe, rollouts
from groupwise.report.sections.base import Builder, Section

SECTIONS: tuple[Builder, ...] = (
    overview.build,
    gains.build,
    checks.build,
    curves.build,
    groups.build,
    prompts.build,
    rollouts.build,
    profile.build,
    recipe.build,
)

__all__ = ["SECTIONS", "Builder", "Section"]
