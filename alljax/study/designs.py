"""Orthogonal arrays: few trials in which every two varied settings have all their combinations equally often."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from alljax.errors import ConfigError

PRIMES = {"L4": (2, 2), "L8": (2, 3), "L9": (3, 2), "L27": (3, 3)}
"""Levels p and exponent k of the arrays with p^k rows."""

L18 = """
11111111 11222222 11333333 12112233 12223311 12331122 13121323 13232131 13313212
21133221 21211332 21322113 22123132 22231213 22312321 23132312 23213123 23321231
"""


def orthogonal_array(name: str) -> list[tuple[int, ...]]:
    """Returns the level, from 0, of each factor (column) in each trial (row) of Taguchi's L4, L8, L9, L18 or L27.

    Those with p^k rows have the (p^k − 1) / (p − 1) linear functions of k digits modulo p as columns: the digits, then
    the functions of most digits, which keep few factors free of interactions of two others.
    """
    if name == "L18":
        return [tuple(int(level) - 1 for level in row) for row in L18.split()]
    levels, exponent = PRIMES[name]
    digits = list(itertools.product(range(levels), repeat=exponent))
    functions = [of[::-1] for of in digits if next(filter(None, of), 0) == 1]  # a multiple is the same column
    functions.sort(key=lambda of: (of.count(0) < exponent - 1, of.count(0)))
    return [tuple(int(np.dot(row, of)) % levels for of in functions) for row in digits]


def combinations(design: str, axes: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns the changes of each trial: the product of the axes, or of the rows of a design and the axes of splits.

    Each other axis is a factor: it takes the first free column with as many levels; rows that repeat count once.
    """
    splits = [axis for axis in axes if not design or all(key.startswith("split.") for key in axis[0])]
    factors, rows = [axis for axis in axes if axis not in splits], orthogonal_array(design) if design else [()]
    free, columns = [len({*column}) for column in zip(*rows, strict=True)], list[int]()
    for factor in factors:
        if len(factor) not in free:
            what, left = f"the {len(factor)} values of {', '.join(factor[0])}", [*filter(None, free)]
            raise ConfigError(f"study.design={design} has no column left for {what}, only of {left} levels")
        columns.append(free.index(len(factor)))
        free[columns[-1]] = 0
    levels = dict.fromkeys(tuple(row[column] for column in columns) for row in rows)
    designed = [[axis[level] for axis, level in zip(factors, row, strict=True)] for row in levels]
    every = itertools.product(designed, *([[part] for part in axis] for axis in splits))
    return [{key: value for part in itertools.chain(*parts) for key, value in part.items()} for parts in every]
