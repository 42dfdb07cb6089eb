"""The page, section by section. To add one: a builder in a file here, its template in assets/sections, a line below."""

from groupwise.report.sections.base import Builder, Section
from groupwise.report.sections.checks import checks
from groupwise.report.sections.curves import curves
from groupwise.report.sections.gains import gains
from groupwise.report.sections.overview import overview
from groupwise.report.sections.recipe import recipe
from groupwise.report.sections.rollouts import rollouts

SECTIONS: tuple[Builder, ...] = (overview, gains, checks, curves, rollouts, recipe)

__all__ = ["SECTIONS", "Builder", "Section"]
