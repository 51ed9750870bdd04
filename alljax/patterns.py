"""Regular expressions in settings: only those that are matched quickly, whatever the text."""

import math
import re
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from alljax.errors import ConfigError

MAX_LENGTH = 200


def compile_pattern(setting: str, pattern: str, choices: int) -> re.Pattern[str]:
    """Compiles a regular expression of a setting.

    The time of a match can be exponential in the number of repeats and alternatives, and also if they are in a repeat.

    Raises:
        ConfigError: no regular expression, a long one, one with a repeat or an alternative inside a repeat, or one with
            more than this number of `choices`.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"{setting}: {pattern!r:.80} is not a regular expression: {error}") from error
    if len(pattern) > MAX_LENGTH or _count_choices(_parser.parse(pattern)) > choices:
        limits = f"at most {MAX_LENGTH} characters and {choices} of * + ? {{}} |, none of them inside a repeat"
        raise ConfigError(f"{setting}: matching {pattern!r:.80} could take too long; use {limits}")
    return compiled


def _count_choices(items: Any) -> float:
    """Returns the number of repeats and alternatives that follow each other; infinity if one is inside a repeat."""
    total = 0.0
    for code, value in items:
        parts: Any = value if isinstance(value, tuple) else (value,)
        if str(code) == "BRANCH":
            total += 1 + max(map(_count_choices, value[1]))
            continue
        inside = sum(_count_choices(part) for part in parts if isinstance(part, _parser.SubPattern))
        if str(code).endswith("REPEAT"):
            inside = math.inf if inside and value[1] > 1 else inside + (value[0] != value[1])
        total += inside
    return total
