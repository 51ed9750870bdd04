import itertools
from collections import Counter
from typing import Any

import pytest
from ml_collections import ConfigDict

from alljax.config import default_config, vary
from alljax.errors import ConfigError
from alljax.study.sweep import Trial, expand, jobs, orthogonal_array

PAPER = (
    ("model.backbone", ("vgg16", "resnet50")), ("train.optimizer", ("adam", "rmsprop")),
    ("train.epochs", (20, 10, 100)),
)  # fmt: skip


def config_of(*sweep: Any) -> ConfigDict:
    config = default_config()
    config.study.sweep = sweep
    return config


def test_trials_are_the_product_in_order() -> None:
    trials = expand(
        config_of(
            ("train.optimizer", ("adam", "rmsprop")),
            ("preprocessing.name", ("torch", "lite")),
            ("train.learning_rate", (1e-3,)),
        )
    )
    assert [trial.name for trial in trials] == [
        f"efficientnet_lite0-{optimizer}-preprocessing={name}-learning_rate=0.001"
        for optimizer in ("adam", "rmsprop")
        for name in ("torch", "lite")
    ]
    assert trials[3].config.preprocessing.name == "lite"
    assert trials[3].config.train.optimizer == "rmsprop"
    assert not trials[3].config.study.sweep


def test_rows_change_several_settings_together() -> None:
    rows = ("frozen", ()), ("finetune", (("head/.*", 1.0), ("backbone/.*", 0.0)))
    trials = expand(config_of((("train.mode", "train.groups"), rows), ("train.epochs", (1, 2))))
    assert [(trial.config.train.mode, trial.config.train.epochs) for trial in trials] == [
        ("frozen", 1), ("frozen", 2), ("finetune", 1), ("finetune", 2),
    ]  # fmt: skip
    assert len(jobs(trials)) == 3, "fine-tuned trials are trained separately"


def test_shorter_trials_are_prefixes_of_one_training() -> None:
    config = config_of(*PAPER)
    trials = expand(config)
    assert [[trial.config.train.epochs for trial in job.trials] for job in jobs(trials)] == [[10, 20, 100]] * 4
    assert {trial.name for job in jobs(trials) for trial in job.trials} == {trial.name for trial in trials}
    cosine = expand(vary(config, {"train.schedule": "cosine"}))  # depends on its length
    assert [len(job.trials) for job in jobs(cosine)] == [1] * 12


def test_jobs_skip_finished_trials() -> None:
    trials = expand(config_of(*PAPER))
    found = jobs(trials, finished=[trial.name for trial in trials if trial.config.train.epochs < 100])
    assert [[trial.config.train.epochs for trial in job.trials] for job in found] == [[100]] * 4
    assert found[0].name == "vgg16-adam-epochs=100"
    assert jobs(trials)[0].name == "vgg16-adam-epochs=10 and 2 more"


def test_shard_has_every_nth_training() -> None:
    trials = expand(config_of(*PAPER))
    assert [len(jobs(trials, (index, 3))) for index in range(3)] == [2, 1, 1]


def test_trials_of_one_split_setting_have_the_same_split() -> None:
    sweep = ("split.protocol", ("paper", "subject_kfold")), ("split.train_subjects", (0, 8)), ("train.epochs", (1, 2))
    splits = [trial.split for trial in expand(config_of(*sweep))]
    assert splits[::2] == splits[1::2]
    assert len(set(splits)) == 4


def test_label_is_the_name_with_the_settings_that_differ_under_it() -> None:
    rows = ("size + color", "vgg16"), ("hybrid", "vgg16"), ("hybrid", "resnet50"), ("", "resnet50")
    config = config_of((("model.label", "model.backbone"), rows), ("split.protocol", ("paper", "subject_kfold")))
    assert [trial.name for trial in expand(config)][::2] == [
        "size_+_color-protocol=paper", "hybrid-backbone=vgg16-protocol=paper",
        "hybrid-backbone=resnet50-protocol=paper", "resnet50-adam-protocol=paper",
    ]  # fmt: skip
    assert [trial.name for trial in expand(vary(config_of(), {"model.label": "ours"}))] == ["ours"]
    with pytest.raises(ConfigError, match="two trials the name"):
        expand(config_of(("model.label", ("a b", "a_b"))))
    with pytest.raises(ConfigError, match="cannot be the name of a trial"):
        expand(config_of(("model.label", ("../a", ":"))))


def test_invalid_sweep_is_refused() -> None:
    with pytest.raises(ConfigError, match="two trials the name"):
        expand(config_of(("train.epochs", (3, 3))))
    with pytest.raises(ConfigError, match="test_fraction"):
        expand(config_of(("split.test_fraction", (1.5,))))


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
