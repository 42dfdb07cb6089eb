"""The groups and the map in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groupwise.report import write_report

from .conftest import DESKTOP
from .fake_run import make_rollout, make_run, write_rollouts
from .test_browser import PHONE, Open, playwright, pytestmark, scroll_through
from .test_page import HOSTILE

__all__ = ["pytestmark"]


def picture(tab: Any) -> str:
    """What is drawn on the map."""
    return str(tab.evaluate("document.querySelector('#map canvas').toDataURL()"))


def open_map(tab: Any) -> Any:
    tab.locator("#map").scroll_into_view_if_needed()
    playwright.expect(tab.locator("#map canvas")).to_have_count(1)
    tab.wait_for_timeout(100)
    return tab.locator("#map")


def tip(tab: Any) -> Any:
    """What is said of the first prompt when it is pointed at."""
    box = open_map(tab).bounding_box()
    x, y = tab.evaluate(
        """() => {
            const { x, y } = GW.data("prompts").points[0];
            const drawing = echarts.getInstanceByDom(document.getElementById("map"));
            return drawing.convertToPixel({ xAxisIndex: 0, yAxisIndex: 0 }, [x, y]);
        }"""
    )
    tab.mouse.move(box["x"] + x - 1, box["y"] + y)
    tab.mouse.move(box["x"] + x, box["y"] + y)
    playwright.expect(tab.locator(".tip")).to_be_visible()
    return tab.locator(".tip")


def test_charts_of_the_groups_move_with_the_curves(page: Path, visit: Open) -> None:
    tab = visit(page)
    scroll_through(tab)
    errors = tab.locator("#groups .chart", has_text="Which baseline")
    errors.locator(".plot").focus()
    for _ in range(5):
        tab.keyboard.press("ArrowLeft")
    reward = tab.locator("#curves .chart").filter(has_text="Reward mean").first
    playwright.expect(reward.locator(".hair")).to_have_attribute("data-step", "19")
    assert re.search(r"update 19: hierarchical 0\.1\d", tab.inner_text("#curve-said"))
    shares = tab.locator("#groups .chart", has_text="Where the variance")
    playwright.expect(shares.locator(".whole b")).to_have_text("100.0\u202f%")


def test_the_tree_opens_and_closes(page: Path, visit: Open) -> None:
    tab = visit(page)
    tree = tab.locator(".tree")
    assert tree.get_by_text("cluster@0.5").first.is_visible()
    fine = tree.get_by_text("cluster@0.7")
    assert fine.count() == 16 and fine.first.is_hidden()
    tree.locator("li li summary").first.click()
    assert fine.first.is_visible()
    tree.locator("summary").first.click()
    assert fine.first.is_hidden()


def test_the_map_is_coloured_by_group_or_by_reward(page: Path, visit: Open) -> None:
    tab = visit(page)
    open_map(tab)
    by_group = picture(tab)
    button = tab.locator("#map-groups button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    without = picture(tab)
    button.click()
    assert without != by_group == picture(tab)
    tab.locator("#prompts").get_by_label("mean reward").check()
    assert tab.locator("#map-groups").is_hidden() and tab.locator("#map-rewards").is_visible()
    assert picture(tab) not in (by_group, without)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=lambda size: str(size[0]))
def test_pointing_at_a_prompt_shows_it(page: Path, visit: Open, size: tuple[int, int]) -> None:
    tab = visit(page, size)
    said = tip(tab).inner_text()
    assert re.search(r"cluster@0\.7 #\d+\n+.+\n+mean reward [\d.]+ of [78] rollouts, update \d+", said)
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_hostile_prompts_and_labels_are_only_text(tmp_path: Path, visit: Open) -> None:
    run = make_run(tmp_path / "run", steps=1, rollouts=False)
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float16)
    rows = [
        make_rollout(prompt_id=str(i), prompt=HOSTILE[2], task=HOSTILE[0], domain=HOSTILE[5], path=[], embedding=vector)
        for i, vector in enumerate(vectors)
    ]
    write_rollouts(run, 1, rows)
    group = {"level": "domain", "id": 0, "label": HOSTILE[2], "rollouts": 60, "parent": None, "reward": 1.0}
    row = {"step": 1, "names": ["domain", "prompt"], "level": "flat", "reason": HOSTILE[0], "groups": [group]}
    (run / "groups.jsonl").write_text(json.dumps(row) + "\n")
    tab = visit(write_report(run))
    shown = tip(tab)
    assert HOSTILE[2] in shown.inner_text() and HOSTILE[0] in shown.inner_text()
    assert shown.locator("img").count() == 0 and tab.locator(".tree img").count() == 0
    assert HOSTILE[2] in tab.locator(".tree").inner_text()


def test_the_map_follows_light_and_dark(page: Path, visit: Open) -> None:
    tab = visit(page)
    open_map(tab)
    light = picture(tab)
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_timeout(200)
    assert picture(tab) != light
