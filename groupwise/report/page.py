"""One self-contained page of a run: sections, style, scripts and data in one file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from groupwise.report import words
from groupwise.report.reading import read_run
from groupwise.report.sections import SECTIONS, Section
from groupwise.run.folder import REPORT

ASSETS = files("groupwise.report") / "assets"
WORDS = (words.percent, words.percent_span, words.points, words.points_span)  # as filters in the templates
COMMON = "common.js"  # before the scripts of the sections


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the run folder, finished run or not. Raises UserError where it is no run."""
    run = read_run(run_dir)
    sections = [section for build in SECTIONS if (section := build(run))]
    path = run_dir / REPORT
    beside = run_dir / f".{REPORT}.tmp"
    beside.write_text(render(run.name, sections), encoding="utf-8", errors="replace")
    beside.replace(path)
    return path


def render(name: str, sections: list[Section]) -> str:
    """The page. Nothing that was generated reaches it but escaped: by the template, or as JSON without a `<`.

    The content security policy allows no request at all and no script but those whose hashes it names.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {word.__name__: word for word in WORDS}
    scripts = [_inline(script) for script in dict.fromkeys([COMMON, *(s for part in sections for s in part.scripts)])]
    return environment.get_template("page.html.j2").render(
        name=name,
        sections=sections,
        style=Markup(asset("style.css")),
        scripts=[Markup(script) for script in scripts],
        data={section.id: Markup(as_json(section.data)) for section in sections if section.data is not None},
        policy="; ".join(
            (
                "default-src 'none'",
                "script-src " + " ".join(map(_hash, scripts)),
                "style-src 'unsafe-inline'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
    )


def asset(name: str) -> str:
    """A file of assets/."""
    return ASSETS.joinpath(*name.split("/")).read_text(encoding="utf-8")


def as_json(data: Any) -> str:
    """JSON that stands inside a script element: without a `<` it can neither end the element nor open a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _inline(name: str) -> str:
    """A script that can stand inside a page."""
    text = asset(name)
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError(f"{name} would end its own script element")
    return text


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
