"""The page in a real browser, cut off from the network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groupwise.report import write_report

from .conftest import CHROMIUM, DESKTOP
from .fake_run import make_rollout, make_run, write_rollouts

PHONE = (390, 844)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
]
playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=60_000)  # two busy cores


Open = Callable[..., Any]


def scroll_through(tab: Any) -> None:
    """So that every chart is drawn."""
    for at in range(0, tab.evaluate("document.documentElement.scrollHeight"), 600):
        tab.evaluate(f"scrollTo(0, {at})")
        tab.wait_for_timeout(30)
    tab.wait_for_timeout(100)


def shown(tab: Any) -> tuple[int, int]:
    """How many rollouts and groups fit, as the page says."""
    tab.wait_for_selector('#rollout-list[aria-busy="false"]')
    numbers = [int(n.replace(",", "")) for n in re.findall(r"[\d,]+\d|\d", tab.inner_text("#count"))]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def test_every_chart_is_drawn_without_a_request_or_a_complaint(page: Path, visit: Open) -> None:
    tab = visit(page)
    scroll_through(tab)
    charts = tab.locator("figure.chart:visible")
    assert charts.count() > 20
    playwright.expect(charts.locator("canvas")).to_have_count(charts.count())
    assert tab.evaluate("document.querySelectorAll('*').length") < 4000


def test_keys_and_pointer_move_one_read_out_through_all_charts(page: Path, visit: Open) -> None:
    tab = visit(page)
    scroll_through(tab)
    reward, speed = tab.locator(".chart").filter(has_text="Reward mean").first, tab.locator(".chart", has_text="Speed")
    last = [chart.locator(".legend b").first.inner_text() for chart in (reward, speed)]
    reward.locator(".plot").focus()
    for _ in range(5):
        tab.keyboard.press("ArrowLeft")
    playwright.expect(speed.locator(".hair")).to_have_attribute("data-step", "19")
    at_19 = [chart.locator(".legend b").first.inner_text() for chart in (reward, speed)]
    assert at_19[0] != last[0] and at_19[1] != last[1]
    assert "update 19: reward" in tab.inner_text("#curve-said")
    assert "\u2192" not in tab.locator(".chart.small .ends").first.inner_text()
    speed.locator(".plot").hover()
    playwright.expect(reward.locator(".hair")).to_have_attribute("data-step", re.compile("1[0-3]"))


def test_dragging_looks_closer_and_whole_run_goes_back(page: Path, visit: Open) -> None:
    tab = visit(page)
    plot = tab.locator(".plot").first
    plot.scroll_into_view_if_needed()
    tab.wait_for_timeout(200)
    box = plot.bounding_box()
    tab.mouse.move(box["x"] + 100, box["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 200, box["y"] + 60, steps=4)
    tab.mouse.up()
    button = tab.locator("#whole-run")
    assert button.is_visible()
    button.click()
    assert button.is_hidden()


def test_lines_can_be_hidden_smoothed_and_read_as_numbers(page: Path, visit: Open) -> None:
    tab = visit(page)
    scroll_through(tab)
    time = tab.locator("figure.wide")
    together = time.locator(".whole b").inner_text()
    button = time.locator(".legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert time.locator(".whole b").inner_text() != together
    accuracy = tab.locator(".chart", has_text="Accuracy share")
    accuracy.locator(".numbers summary").click()
    before = accuracy.locator("tbody tr").first.locator("td")
    playwright.expect(before).to_have_text(["\u2013", re.compile(r"31\.4")])  # no training batch before update 1
    tab.get_by_label("strong").check()
    time.locator(".numbers summary").click()
    playwright.expect(time.locator("table tbody tr")).to_have_count(12)


def test_filters_and_search_choose_rollouts(page: Path, visit: Open) -> None:
    tab = visit(page)
    everything = shown(tab)
    assert everything[0] > 1000
    tab.select_option("#f-task", "gcd")
    of_gcd = shown(tab)
    assert 0 < of_gcd[0] < everything[0]
    assert set(tab.locator(".card header b").all_inner_texts()) == {"gcd"}
    tab.fill("#f-text", "common DIVISOR")
    assert shown(tab) == of_gcd
    assert tab.locator("mark").count() >= tab.locator(".card").count()
    tab.fill("#f-from", "10")
    tab.fill("#f-to", "12")
    shown(tab)
    steps = {int(re.sub(r"\D", "", text)) for text in tab.locator(".card header span:nth-child(2)").all_inner_texts()}
    assert steps and steps <= {10, 11, 12}
    tab.click("#filters button[type=reset]")
    assert shown(tab) == everything
    tab.fill("#f-text", "no completion says this")
    assert shown(tab)[0] == 0
    assert "No rollout fits" in tab.inner_text("#rollout-list")


@pytest.mark.parametrize("outcome", ["right", "wrong"])
def test_outcomes_are_told_apart(page: Path, visit: Open, outcome: str) -> None:
    tab = visit(page)
    tab.get_by_label("single").check()
    tab.select_option("#f-outcome", outcome)
    assert shown(tab)[0] > 100
    assert set(tab.locator(".card header .outcome .word").all_inner_texts()) == {outcome}


def test_dropped_rollouts_say_why(page: Path, visit: Open) -> None:
    tab = visit(page)
    tab.get_by_label("single").check()
    tab.select_option("#f-outcome", "dropped")
    assert shown(tab)[0] >= 1
    assert "dropped: accuracy: TimeoutError" in tab.locator(".reason").first.inner_text()


def test_sorting_by_advantage(page: Path, visit: Open) -> None:
    tab = visit(page)
    tab.get_by_label("single").check()
    for order, sign in (("high", 1), ("low", -1)):
        tab.select_option("#f-sort", order)
        shown(tab)
        texts = tab.locator(".card header .advantage").all_inner_texts()
        values = [float(text.replace("\u2212", "-")) * sign for text in texts]
        assert values == sorted(values, reverse=True) and values[0] > 0.5


def test_pages_turn_and_the_document_stays_small(page: Path, visit: Open) -> None:
    tab = visit(page)
    first = tab.inner_text("#rollout-list")
    assert tab.locator("#previous").is_disabled()
    tab.click("#next")
    assert tab.inner_text("#page-at").startswith("page 2 of ")
    assert tab.inner_text("#rollout-list") != first
    assert tab.locator(".card").count() == 6
    tab.click("#previous")
    assert tab.inner_text("#rollout-list") == first


def test_a_sibling_opens_with_its_thought_and_answer_apart(page: Path, visit: Open) -> None:
    tab = visit(page)
    tab.fill("#f-text", "</think>")
    shown(tab)
    card = tab.locator(".card").first
    card.locator(".open-all").click()
    assert card.locator(".part.think pre").first.is_visible()
    assert "<think>" not in card.inner_text()
    tab.check("#f-raw")
    shown(tab)
    card.locator(".open-all").click()
    assert "<think>" in card.inner_text()


def test_hostile_completions_are_only_text(tmp_path: Path, visit: Open) -> None:
    texts = [
        "</script><script>window.hurt = 1</script>",
        "<img src=https://example.com/x.png onerror='window.hurt = 1'>",
        "<think><b onclick=alert(1)>bold</b></think><answer><iframe src='https://example.com'></iframe></answer>",
        "a thought without its start</think> and <answer>an answer without an end",
        "",
    ]
    run = make_run(tmp_path / "run", steps=2, rollouts=False)
    rows = [make_rollout(rollout=i, prompt=texts[0], completion=text, answer=text) for i, text in enumerate(texts)]
    write_rollouts(run, 1, rows)
    tab = visit(write_report(run))
    tab.get_by_label("single").check()
    assert shown(tab)[0] == len(texts)
    said = tab.inner_text("#rollout-list")
    for words in ("window.hurt = 1</script>", "<img src=https://example.com", "<b onclick=alert(1)>bold</b>"):
        assert words in said
    assert tab.evaluate("window.hurt") is None
    assert tab.locator("#rollout-list img, #rollout-list iframe, #rollout-list script").count() == 0
    assert tab.locator(".part.answer pre").all_inner_texts()[-1] == "an answer without an end"


@pytest.mark.parametrize("size", [PHONE, (320, 640), (768, 1024), DESKTOP], ids=lambda size: str(size[0]))
def test_nothing_is_wider_than_the_screen(page: Path, visit: Open, size: tuple[int, int]) -> None:
    tab = visit(page, size)
    scroll_through(tab)
    for summary in tab.locator("#curves .numbers summary").all()[:4]:
        summary.click()
    for button in tab.locator(".open-all").all():
        button.click()
    tab.locator("#recipe summary").click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_long_words_do_not_widen_a_phone(tmp_path: Path, visit: Open) -> None:
    run = make_run(tmp_path / ("r" * 60), steps=2, rollouts=False)
    long = "w" * 400
    write_rollouts(run, 1, [make_rollout(prompt=long, completion=long, answer=long, task="t" * 80, dropped="d" * 200)])
    tab = visit(write_report(run), PHONE)
    scroll_through(tab)
    tab.locator(".open-all").click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


def test_an_unfinished_run_opens_too(tmp_path: Path, visit: Open) -> None:
    tab = visit(write_report(make_run(tmp_path / "begun", steps=0, asked=9, finished=False, rollouts=False)), PHONE)
    assert "no update yet" in tab.inner_text("body")
    tab = visit(write_report(make_run(tmp_path / "one", steps=1, asked=9, finished=False)), PHONE)
    scroll_through(tab)
    assert tab.locator("canvas").count() > 5


def test_the_page_follows_light_and_dark(page: Path, visit: Open) -> None:
    def brightness(scheme: str) -> int:
        colour = visit(page, scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness("light") > 700
    assert brightness("dark") < 100
