"""A study's cells: the product of what it varies, each with a name of its own."""

import pytest

from alljax.config import default_config
from alljax.errors import ConfigError
from alljax.study.sweep import compiled_alike, runs, trials


def test_nothing_varied_is_one_cell() -> None:
    (trial,) = trials(default_config())
    assert trial.name == "efficientnet_lite0-adam"


def test_the_product_in_order_with_names() -> None:
    config = default_config()
    config.study.sweep = (
        ("train.optimizer", ("adam", "rmsprop")),
        ("preprocessing.name", ("torch", "lite")),
        ("train.learning_rate", (1e-3,)),
    )
    grid = trials(config)
    assert [trial.name for trial in grid] == [
        f"efficientnet_lite0-{optimizer}-preprocessing={name}-learning_rate=0.001"
        for optimizer in ("adam", "rmsprop")
        for name in ("torch", "lite")
    ]
    assert grid[3].config.preprocessing.name == "lite"
    assert grid[3].config.train.optimizer == "rmsprop"
    assert not grid[3].config.study.sweep


def test_a_name_is_a_folder_name() -> None:
    config = default_config()
    config.study.sweep = (("weights.path", ("../some where/a.pth",)),)
    assert "/" not in trials(config)[0].name


def test_the_same_value_twice_is_refused() -> None:
    config = default_config()
    config.study.sweep = (("train.epochs", (3, 3)),)
    with pytest.raises(ConfigError, match="two cells the name"):
        trials(config)


PAPER = (
    ("model.backbone", ("vgg16", "resnet50")), ("train.optimizer", ("adam", "rmsprop")),
    ("train.epochs", (20, 10, 100)),
)  # fmt: skip


def test_budgets_are_beginnings_of_one_run_unless_they_are_to_be_separate() -> None:
    config = default_config()
    config.study.sweep = PAPER
    grid = trials(config)
    assert [[trial.config.train.epochs for trial in run] for run in runs(grid)] == [[10, 20, 100]] * 4
    assert sorted(trial.name for run in runs(grid) for trial in run) == sorted(trial.name for trial in grid)
    config.study.share_training = False
    assert [len(run) for run in runs(trials(config))] == [1] * 12


def test_a_schedule_that_knows_its_end_has_no_beginnings() -> None:
    config = default_config()
    config.train.schedule = "cosine"
    config.study.sweep = PAPER
    assert [len(run) for run in runs(trials(config))] == [1] * 12


def test_a_list_of_rows_varies_keys_together() -> None:
    config = default_config()
    config.study.sweep = (
        (("train.mode", "train.groups"), (("frozen", ()), ("finetune", (("head/.*", 1.0), ("backbone/.*", 0.0))))),
        ("train.epochs", (1, 2)),
    )
    grid = trials(config)
    assert [(trial.config.train.mode, trial.config.train.epochs) for trial in grid] == [
        ("frozen", 1), ("frozen", 2), ("finetune", 1), ("finetune", 2),
    ]  # fmt: skip
    assert len(runs(grid)) == 3, "fine-tuned cells are trained one by one"
    assert all("/" not in trial.name for trial in grid)


def test_numbers_are_arguments_of_what_is_compiled_and_the_rest_is_not() -> None:
    config = default_config()
    config.study.sweep = (
        ("train.learning_rate", (1e-3, 1e-4)), ("train.decay_rate", (0.9, 1.0)), ("train.optimizer", ("adam", "sgd")),
        ("train.weight_decay", (0.0, 1e-3, 1e-2)),
    )  # fmt: skip
    grid = trials(config)
    assert len(grid) == 24
    assert len({compiled_alike(trial.config) for trial in grid}) == 4  # optimizer × whether weights decay


def test_cells_of_one_split_are_named_alike() -> None:
    config = default_config()
    config.study.sweep = (("split.protocol", ("paper", "subject_kfold")), ("split.train_subjects", (0, 8)))
    assert [trial.split for trial in trials(config)] == [
        f"{protocol}-train_subjects={people}" for protocol in ("paper", "subject_kfold") for people in (0, 8)
    ]


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        ((("train.epochs", ()),), "no value"),
        (((("train.epochs", "train.optimizer"), ((1,),)),), "the row"),
        ((("train.epoch", (1,)),), "did you mean train.epochs"),
        ((("data.source", ("a",)),), "cannot vary"),
        ((("split.test_fraction", (1.5,)),), "between 0 and 1"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(vary: tuple, says: str) -> None:
    config = default_config()
    config.study.sweep = vary
    with pytest.raises(ConfigError, match=says):
        trials(config)
