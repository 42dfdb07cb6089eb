"""Numbers as people read them: percent, points, durations, sizes."""

from __future__ import annotations

import math

SPACE = "\u202f"  # narrow and unbreakable, between a number and its unit
MINUS = "\u2212"
Interval = tuple[float, float]


def percent(share: float, digits: int = 1) -> str:
    """.445 -> 44.5 %."""
    return f"{share * 100:.{digits}f}{SPACE}%".replace("-", MINUS)


def points(difference: float, digits: int = 1) -> str:
    """.356 -> +35.6, a difference of shares in percentage points."""
    text = f"{difference * 100:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", MINUS)


def percent_span(interval: Interval | None) -> str:
    """(.42, .469) -> 42.0 to 46.9; empty where there is no interval."""
    return "" if interval is None else f"{interval[0] * 100:.1f} to {interval[1] * 100:.1f}".replace("-", MINUS)


def points_span(interval: Interval | None) -> str:
    """(.33, .38) -> +33.0 to +38.0; empty where there is no interval."""
    return "" if interval is None else f"{points(interval[0])} to {points(interval[1])}"


def count(number: float) -> str:
    """11520 -> 11,520."""
    return f"{number:,.0f}".replace("-", MINUS)


def amount(number: float) -> str:
    """623810 -> 624 k; 1234567 -> 1.23 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            return f"{number / (1e3 if unit == 'k' else size):.3g}{SPACE}{unit}"
    return count(number)


def number(value: float) -> str:
    """Three significant digits, without an exponent where one is not needed."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "?"
    if 1e-3 <= abs(value) < 1e5:
        decimals = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{decimals}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """178 -> 2 min 58 s."""
    if seconds < 60:
        return f"{number(seconds)}{SPACE}s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}{SPACE}h {minutes}{SPACE}min"
    return f"{minutes}{SPACE}min {rest}{SPACE}s" if rest else f"{minutes}{SPACE}min"


def memory(mebibytes: float) -> str:
    """1946 -> 1.9 GiB."""
    return f"{mebibytes / 1024:.1f}{SPACE}GiB" if mebibytes >= 1024 else f"{mebibytes:.0f}{SPACE}MiB"


def plural(number: float, one: str, many: str | None = None) -> str:
    """(1, update) -> 1 update; (3, update) -> 3 updates."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
