import itertools
from collections import Counter

import pytest

from alljax.config import default_config, vary
from alljax.errors import ConfigError
from alljax.study.sweep import Trial, expand, orthogonal_array

RATES, DECAYS, MOMENTA = [(f"train.{key}", (0.1, 0.2, 0.3)) for key in ("learning_rate", "weight_decay", "momentum")]
TWO = [(f"augment.{key}", (0.1, 0.2)) for key in ("shift", "zoom", "crop")]
SPLITS = ("split.protocol", ("paper", "subject_kfold"))
SIZES = {"L4": (4, [2] * 3), "L8": (8, [2] * 7), "L9": (9, [3] * 4), "L18": (18, [2] + [3] * 7), "L27": (27, [3] * 13)}


def trials_of(design: str, *sweep: tuple) -> list[Trial]:
    return expand(vary(default_config(), {"study.design": design, "study.sweep": sweep}))


@pytest.mark.parametrize("name", SIZES)
def test_every_two_columns_are_balanced(name: str) -> None:
    rows, levels = SIZES[name]
    columns = [*zip(*orthogonal_array(name), strict=True)]
    assert [len(set(column)) for column in columns] == levels
    for one, other in itertools.combinations(columns, 2):
        pairs = Counter(zip(one, other, strict=True))
        assert len(pairs) == len(set(one)) * len(set(other))
        assert {*pairs.values()} == {rows // len(pairs)}


def test_trials_are_rows_of_the_array_times_the_splits() -> None:
    rows = ["1111", "1222", "1333", "2123", "2231", "2312", "3132", "3213", "3321"]
    assert orthogonal_array("L9") == [tuple(int(level) - 1 for level in row) for row in rows]
    trials = trials_of("L9", RATES, SPLITS, DECAYS, MOMENTA)
    assert [trial.config.split.protocol for trial in trials] == ["paper", "subject_kfold"] * 9
    assert [round(10 * trial.config.train.momentum) for trial in trials[::2]] == [int(row[2]) for row in rows]
    assert not any(trial.config.study.design for trial in trials)
    assert len(trials_of("L8", *TWO)) == 8, "the full product"
    assert len(trials_of("L9", RATES)) == 3, "equal rows once"


def test_too_many_factors_or_levels() -> None:
    with pytest.raises(ConfigError, match=r"for the 3 values of train.learning_rate, only of \[2, 2, 2\] levels"):
        trials_of("L4", RATES)
    with pytest.raises(ConfigError, match=r"for the 2 values of augment.zoom, only of \[3, 3"):
        trials_of("L18", *TWO)
