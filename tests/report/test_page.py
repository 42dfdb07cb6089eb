from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groupwise.report import write_report
from groupwise.report.page import ASSETS, as_json
from groupwise.types import UserError

from .fake_run import make_rollout, make_run, write_rollouts
from .families import FAMILIES
from .html import Page, parse


def read(path: Path) -> Page:
    return parse(path.read_text(encoding="utf-8"))


def test_the_page_is_in_the_run_folder_and_small(finished: Path, page: Path) -> None:
    assert page == finished / "report.html"
    assert page.stat().st_size < 3_000_000
    assert not list(finished.glob(".*.tmp"))


def test_it_has_every_section_and_its_numbers(page: Path) -> None:
    tree = read(page)
    ids = [attributes["id"] for tag, attributes in tree.tags if tag == "section"]
    assert ids == ["overview", "gains", "checks", "curves", "groups", "prompts", "rollouts", "recipe"]
    said = tree.text.replace("\u202f", " ")
    for words in ("seedling, trained by reinforcement on 8 tasks: 24 updates", "31.4 %", "57.6 %", "+26.3", "dapo"):
        assert words in said
    for family in FAMILIES:
        assert family.name in said


def test_the_same_run_gives_the_same_page(finished: Path, page: Path) -> None:
    before = page.read_bytes()
    write_report(finished)
    assert page.read_bytes() == before


def test_no_tag_refers_to_the_network(page: Path) -> None:
    tree = read(page)
    for tag, attributes in tree.tags:
        for name in ("src", "href", "action", "srcset", "poster", "data", "xlink:href"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")), f"<{tag} {name}={value}>"
    style = ASSETS.joinpath("style.css").read_text()
    assert "url(" not in style and "@import" not in style


def test_the_policy_allows_exactly_the_pages_own_scripts(page: Path) -> None:
    tree = read(page)
    [policy] = [a["content"] for tag, a in tree.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    code = [text for attributes, text in tree.scripts if attributes.get("type") != "application/json"]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    assert re.findall(r"sha256-([^']+)", policy) == hashes
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "\u2028 line \u2029 para \0 \x1b[31m",
    '"><svg onload=alert(1)>',
    "&lt;b&gt; &amp;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_wherever_it_stands(tmp_path: Path, text: str) -> None:
    plain = read(write_report(make_run(tmp_path / "plain", steps=2)))
    run = make_run(tmp_path / "run", steps=2)
    hostile = make_rollout(task=text, domain=text, prompt=text, completion=text, answer=text, dropped=text)
    hostile |= {"step": 3, "rewards": json.dumps({text: 1.0}), "finish_reason": text}
    write_rollouts(run, 3, [hostile | {"path": [0, 0], "embedding": np.ones(16, np.float16)}])
    rows = (run / "metrics.jsonl").read_text()
    named = {"step": 3, f"tasks/{text}/reward": 0.5, f"reward/{text}/mean": 0.5, f"odd/{text}": 1.0}
    (run / "metrics.jsonl").write_text(rows + json.dumps(named) + "\n")
    summary = json.loads((run / "summary.json").read_text())
    for part in ("before", "after"):
        summary[part]["by_task"][text] = 0.5
        summary[part]["domains"][text] = text
    summary["machine"]["cpu"] = text
    (run / "summary.json").write_text(json.dumps(summary))
    level = {"level": text, "id": 0, "label": text, "rollouts": 2, "parent": None, "reward": 0.5}
    groups = {"step": 3, "names": [text, "prompt"], "level": "flat", "reason": text, "groups": [level]}
    with (run / "groups.jsonl").open("a") as file:
        file.write(json.dumps(groups) + "\n")
    tree = read(write_report(run))
    assert text in [group["prompt"] for group in tree.data("rollouts")["groups"]]
    assert f"{text} #0" in [point["group"] for point in tree.data("prompts")["points"]]
    assert [tag for tag, _ in tree.tags].count("script") == [tag for tag, _ in plain.tags].count("script")
    assert {tag for tag, _ in tree.tags} == {tag for tag, _ in plain.tags}
    assert not any(name.startswith("on") for _, attributes in tree.tags for name in attributes)


def test_json_inside_a_script_has_no_angle_bracket() -> None:
    data = {"</script>": ["<!--", "\u2028", "caf\u00e9", None, 1.5]}
    assert "<" not in as_json(data)
    assert json.loads(as_json(data)) == data
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(float("nan"))


def no_updates(folder: Path) -> Path:
    return make_run(folder, steps=0, asked=90, finished=False, rollouts=False)


def half_done(folder: Path) -> Path:
    return make_run(folder, steps=7, asked=90, finished=False)


def one_update(folder: Path) -> Path:
    return make_run(folder, steps=1, asked=90, finished=False)


def no_rollouts(folder: Path) -> Path:
    return make_run(folder, steps=7, rollouts=False)


def recipe_only(folder: Path) -> Path:
    make_run(folder, steps=0, finished=False)
    (folder / "metrics.jsonl").unlink()
    return folder


def no_recipe(folder: Path) -> Path:
    make_run(folder, steps=3)
    (folder / "recipe.yaml").unlink()
    return folder


def all_broken(folder: Path) -> Path:
    make_run(folder, steps=3)
    (folder / "recipe.yaml").write_text("a: [")
    (folder / "summary.json").write_text('{"before": ')
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss"')
    (folder / "rollouts" / "step-000002.parquet").write_bytes(b"PAR1 nonsense")
    return folder


def only_before(folder: Path) -> Path:
    make_run(folder, steps=3)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({"before": summary["before"]}))
    return folder


def only_after(folder: Path) -> Path:
    make_run(folder, steps=3)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"before": None, "gain": None}))
    return folder


def never_evaluated(folder: Path) -> Path:
    make_run(folder, steps=3)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"before": None, "after": None, "gain": None}))
    return folder


def before_groups(folder: Path) -> Path:
    return make_run(folder, steps=3, groups=None)


def fine_tuning(folder: Path) -> Path:
    make_run(folder, steps=0, finished=False)
    rows = [{"step": step, "loss": 2 / step, "policy/grad_norm": 0.5, "tokens/per_second": 9e3} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


UNFINISHED: dict[Callable[[Path], Path], list[str]] = {
    no_updates: ["no update yet", "No evaluation yet", "No update has been recorded", "No rollouts have been written"],
    half_done: ["unfinished: 7 of 90 updates", "Nothing to compare: the run has not ended"],
    one_update: ["unfinished: 1 of 90 updates"],
    no_rollouts: ["finished", "No rollouts have been written"],
    recipe_only: ["no update yet"],
    no_recipe: ["finished", "recipe.yaml is missing"],
    all_broken: ["recipe.yaml could not be read", "summary.json could not be read", "1 of the rollout files"],
    only_before: ["before; not evaluated again yet"],
    only_after: ["after; not evaluated before"],
    never_evaluated: ["finished", "Nothing was evaluated: there were no held-out prompts (eval.prompts)."],
    before_groups: ["finished"],
    fine_tuning: ["3 updates, no summary", "Loss"],
}


@pytest.mark.parametrize("make", UNFINISHED, ids=lambda make: make.__name__)
def test_a_run_with_less_has_a_page_that_says_so(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    tree = read(write_report(make(tmp_path / "run")))
    said = " ".join(tree.text.split())
    assert [sentence for sentence in UNFINISHED[make] if sentence not in said] == []
    ids = {attributes["id"] for tag, attributes in tree.tags if tag == "section"}
    assert ("groups" in ids) == (make not in (no_updates, recipe_only, before_groups, fine_tuning))


def test_without_curves_the_page_carries_no_chart_library(tmp_path: Path) -> None:
    assert write_report(no_updates(tmp_path / "run")).stat().st_size < 100_000


def test_a_folder_that_is_no_run_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run: it has no recipe\.yaml"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        write_report(tmp_path / "nowhere")


def test_the_chart_library_is_the_one_that_its_readme_names() -> None:
    vendor = ASSETS / "vendor"
    digest = hashlib.sha256((vendor / "echarts.common.min.js").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in (vendor / "README.md").read_text()
    assert "Apache License" in (vendor / "echarts.LICENSE").read_text()


def test_reading_a_run_needs_no_torch(finished: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from groupwise.report import write_report
write_report(Path({str(finished)!r}))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
