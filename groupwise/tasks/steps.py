"""The steps of a completion's reasoning, one a line, and whether each holds.

Checked are equations and comparisons of integers (`66=50*1+16`, `44/4=11`, `3*(2+1)<10`; division is exact, `//`
rounds down) and pairs of spelled words of which the second must mirror the first (`s-u-n`, then `n-u-s`). Whatever
else a line says cannot be checked here.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

from groupwise.types import Step

# Without powers no value has more digits than its line has characters, so this alone bounds the work.
MAX_CHARACTERS = 200
_OPEN, _ENDS = "<think>", ("</think>", "<answer>")
_LINE = re.compile(r"\S(?:[^\n]*\S)?")
_RELATION = re.compile(r"(<=|>=|<|>|=)")
_STATEMENT = re.compile(r"[0-9+\-*/() <>=]+")
_SPELLED = re.compile(r"[^\W\d_](?:-[^\W\d_])+")

_HOLDS: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_OPERATIONS: dict[type[ast.AST], Callable[..., Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def split_steps(completion: str) -> list[Step]:
    r"""The lines between <think> and its end, without those that are blank; none where there is no <think>.

    >>> [(step.text, step.start) for step in split_steps("<think>\n1+1=2\n</think>")]
    [('1+1=2', 8)]
    """
    opening = completion.find(_OPEN)
    if opening < 0:
        return []
    begin = opening + len(_OPEN)
    ends = [at for tag in _ENDS if (at := completion.find(tag, begin)) >= 0]
    lines = _LINE.finditer(completion, begin, min(ends, default=len(completion)))
    return [Step(text=line[0], start=line.start(), end=line.end()) for line in lines]


def verify_steps(completion: str) -> list[bool | None]:
    r"""For each of `split_steps` whether it holds; None where that cannot be checked.

    >>> verify_steps("<think>\n180*2=360\n360-117=244\nso far so good\n</think>")
    [True, False, None]
    """
    steps = split_steps(completion)
    verdicts = [holds(step.text) for step in steps]
    spelled: str | None = None  # the first word of a pair
    for index, step in enumerate(steps):
        if not _SPELLED.fullmatch(step.text):
            spelled = None
        elif spelled is None:
            spelled = step.text
        else:
            verdicts[index] = step.text == spelled[::-1]
            spelled = None
    if steps and not completion[steps[-1].end :].strip(" "):  # nothing ends the line: it may have been cut
        verdicts[-1] = None
    return verdicts


def holds(statement: str) -> bool | None:
    """Whether an equation or comparison of integers is true; None where it is none.

    A chain (`2<3<4`) holds when each of its relations does; a statement that divides by zero does not hold.
    """
    if len(statement) > MAX_CHARACTERS or not _STATEMENT.fullmatch(statement):
        return None
    parts = _RELATION.split(statement)
    if len(parts) < 3:
        return None
    try:
        values = [_value(ast.parse(side.strip(), mode="eval").body) for side in parts[::2]]
    except ZeroDivisionError:
        return False
    except (SyntaxError, ValueError):  # ValueError: a form that is no arithmetic, such as a call
        return None
    return all(_HOLDS[relation](a, b) for relation, (a, b) in zip(parts[1::2], pairwise(values), strict=True))


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _OPERATIONS:
            return Fraction(_OPERATIONS[type(sign)](_value(operand)))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
            return Fraction(_OPERATIONS[type(sign)](_value(left), _value(right)))
    raise ValueError(f"{ast.dump(node)} is not arithmetic")
