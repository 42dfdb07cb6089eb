"""Steps are found where they stand, true ones hold, false ones do not, and no text can hang the check."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from groupwise.tasks.steps import MAX_CHARACTERS, holds, split_steps, verify_steps

MANY = settings(max_examples=200)
numbers = st.integers(-999, 999)


def written(value: int) -> str:
    return f"({value})" if value < 0 else str(value)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, Fraction]:
    """A bracketed expression and its value, computed here and not by parsing."""
    if depth == 0 or draw(st.booleans()):
        value = draw(numbers)
        return written(value), Fraction(value)
    (left, a), (right, b) = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    sign = draw(st.sampled_from(["+", "-", "*", "/", "//"]))
    if sign in ("/", "//"):
        assume(b != 0)
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a, "//": Fraction(a // b) if b else a}[sign]
    return f"({left}{sign}{right})", value


def think(*lines: str) -> str:
    return "<think>\n" + "\n".join(lines) + "\n</think>\n<answer>1</answer>"


@MANY
@given(expressions())
def test_a_correct_equation_holds_and_a_perturbed_one_does_not(expression: tuple[str, Fraction]) -> None:
    text, value = expression
    result = written(value.numerator) if value.denominator == 1 else f"({value.numerator})/{value.denominator}"
    assert holds(f"{text}={result}") is True
    assert holds(f"{result}={text}") is True
    assert holds(f"{text}={result}+1") is False
    assert verify_steps(think(f"{text}={result}", f"{text}={result}-1")) == [True, False]


@MANY
@given(a=numbers, b=numbers)
def test_a_comparison_holds_when_it_is_true(a: int, b: int) -> None:
    assert holds(f"{a}<{b}") is (a < b)
    assert holds(f"{a}>{b}") is (a > b)
    assert holds(f"{a}<={b}") is (a <= b)
    assert holds(f"{a}>={b}") is (a >= b)
    assert holds(f"{a}={b}") is (a == b)
    assert holds(f"{a} < {a + 1} < {b}") is (a + 1 < b)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzé", min_size=2, max_size=12), st.data())
def test_the_second_of_two_spelled_words_mirrors_the_first(word: str, data: st.DataObject) -> None:
    forth, back = "-".join(word), "-".join(reversed(word))
    assert verify_steps(think(forth, back)) == [None, True]
    other = data.draw(st.permutations(word))
    assume(list(other) != list(reversed(word)))
    assert verify_steps(think(forth, "-".join(other))) == [None, False]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("66=50*1+16", True),
        ("180*2=360", True),
        ("-186-9=-195", True),
        ("44/4=11", True),
        ("45/4=11", False),
        ("45//4=11", True),
        ("-7//2=-4", True),
        ("-195/-15=13", True),
        ("7/2/7=1/2", True),
        ("2*(3+4)=14", True),
        ("2+3*4=20", False),
        ("1+1=2=3-1", True),
        ("1+1=2=3", False),
        ("8=8", True),
        ("5/0=5", False),
        ("14<17", True),
        ("17<14", False),
        ("2 + 2 = 4", True),
    ],
)
def test_known_statements(line: str, verdict: bool) -> None:
    assert holds(line) is verdict


@pytest.mark.parametrize(
    "line",
    [
        "", "=", "5", "5+5", "5=", "=5", "1==1", "5+=10", "1<>2", "2**3=8", "5 5=55", "007=7", "1_0=10", "1.5=1.5",
        "2(3)=6", "(1,2)=3", "()=0", "x=1", "[1]=1", "True=1", "1=1 and more", "so 1+1=2", "\uff11=\uff11",
        "1,000=1000", "~1=-2", "Some A not B", "1%1=0", "((((1=1", "1)=(1",
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_cannot_be_checked(line: str) -> None:
    assert holds(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "9**9**9**9=1",
        "9" * 10_000 + "*" + "9" * 10_000 + "=1",
        "*".join(["9" * 50] * 2_000) + "=1",
        "(" * 100_000 + "1" + ")" * 100_000 + "=1",
        "-" * 100_000 + "1=1",
        "=".join(["1"] * 100_000),
        "-".join("a" * 100_000),
        " " * 100_000 + "1=1" + " " * 100_000 + "x",
    ],
)
def test_a_monstrous_line_takes_no_time(line: str) -> None:
    began = time.process_time()
    (verdict,) = verify_steps(think(line))
    assert verdict is None
    assert time.process_time() - began < 0.2


def test_lines_within_the_limit_may_be_nested_as_deep_as_they_like() -> None:
    deep = (MAX_CHARACTERS - 5) // 2
    assert holds("(" * deep + "1" + ")" * deep + "=1") in (True, None)  # Python's own parser gives up at some depth
    signs = MAX_CHARACTERS - 4 - MAX_CHARACTERS % 2
    assert holds("-" * signs + "1=1") is True
    wide = "*".join(["99"] * 60)
    assert holds(f"{wide}={99**60 % 10}") is False


@given(st.text(alphabet="0123456789+-*/()<>= ", max_size=40))
def test_any_statement_gets_a_verdict(line: str) -> None:
    assert holds(line) in (True, False, None)


@MANY
@given(st.text(alphabet="<think>/answer\n\r\t 12+=3-ab", max_size=120), st.booleans())
def test_steps_lie_where_they_say(noise: str, opened: bool) -> None:
    completion = "<think>" + noise if opened else noise
    steps = split_steps(completion)
    assert len(verify_steps(completion)) == len(steps)
    for step in steps:
        assert completion[step.start : step.end] == step.text == step.text.strip()
        assert step.text
        assert "\n" not in step.text
    ends = [step.end for step in steps]
    assert all(end <= step.start for end, step in zip(ends, steps[1:], strict=False))
    assert steps == [] or opened or "<think>" in completion


def test_steps_are_the_lines_of_the_think_part() -> None:
    completion = "well\n<think> 1+1=2\n\n  2+2=5  \r\nhm\n</think>\n3=3\n<answer>2</answer><think>4=4</think>"
    assert [step.text for step in split_steps(completion)] == ["1+1=2", "2+2=5", "hm"]
    assert [step.start for step in split_steps(completion)] == [completion.index(t) for t in ("1+1=2", "2+2=5", "hm")]
    assert verify_steps(completion) == [True, False, None]
    assert split_steps("1+1=2\n</think>") == []
    assert split_steps("") == split_steps("<think></think>") == split_steps("<think>\n \n</think>") == []
    assert [step.text for step in split_steps("<think>\n1=1\n<answer>1=2</answer>")] == ["1=1"]


def test_the_last_line_of_thoughts_that_do_not_end_may_be_cut_and_is_not_judged() -> None:
    assert verify_steps("<think>\n1+1=2\n12+12=2") == [True, None]
    assert verify_steps("<think>\n1+1=2\n12+12=2 ") == [True, None]
    assert verify_steps("<think>\n1+1=2\n12+12=2\n") == [True, False]
    assert verify_steps("<think>\n1+1=2\n12+12=2</think>") == [True, False]
    assert verify_steps("<think>\ns-u-n\nn-u") == [None, None]


def test_spelled_words_are_judged_in_pairs_of_neighbours() -> None:
    assert verify_steps(think("s-u-n", "n-u-s", "a-b", "b-a")) == [None, True, None, True]
    assert verify_steps(think("s-u-n", "1=1", "n-u-s")) == [None, True, None]
    assert verify_steps(think("s-u-n", "n-u-s", "n-u-s")) == [None, True, None]
    assert verify_steps(think("s-u-n", "nus")) == [None, None]
    assert verify_steps(think("1-2=-1", "s-u-n", "n-u-s")) == [True, None, True]
