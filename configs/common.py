"""Settings that several studies share.

The quickstart and every ablation have two arguments.  ``:cnmc`` uses VGG16 and 100 epochs, for C-NMC 2019:

    alljax study --config=ablate_batch:cnmc --workdir=runs/batch --config.data.source=C-NMC_Leukemia.zip

``:toy`` is a small version of the study, see `toy`.  Times in the docstrings are for two CPU cores.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def frozen_study(file: str, argument: str, *sweep: Any, accepts: tuple[str, ...] = ()) -> ConfigDict:
    """Returns a study with a frozen backbone: 30 epochs and 3 seeds on generated images.

    Args:
        file: of the config, for messages.
        argument: the text after the colon of ``--config=NAME:ARGUMENT``.
        sweep: the entries of ``study.sweep``.
        accepts: arguments of this config besides ``cnmc`` and ``toy``.

    Raises:
        ConfigError: an argument that is not accepted.
    """
    check_argument(file, argument, "cnmc", "toy", *accepts)
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = sweep
    if argument == "cnmc":
        config.model.backbone = "vgg16"
        config.train.epochs = 100
    if argument.endswith("toy"):
        toy(config)
        config.model.stage = "" if any(key == "model.stage" for key, _ in sweep) else "stage3"
    return config


def toy(config: ConfigDict) -> None:
    """Makes a study small: 96 generated images of 64 × 64 pixels, 3 folds, 2 epochs, 2 seeds."""
    config.data.synthetic.update(images=96, subjects=12, image_size=64)
    config.preprocessing.image_size = 64
    config.split.folds = 3
    config.train.epochs = 2
    config.study.seeds = 2


def method(file: str, argument: str, *sweep: Any, accepts: tuple[str, ...] = (), **groups: Any) -> ConfigDict:
    """Returns a study of a method of the paper's Table 7, with subjects held out.

    With ``toy`` it is small: `toy`, random weights instead of trained ones, one seed.

    Args:
        file: of the config, for messages.
        argument: the text after the colon of ``--config=NAME:ARGUMENT``.
        sweep: the entries of ``study.sweep``, with ``model.label`` among them where there are several labels.
        accepts: arguments of this config besides ``toy``.
        groups: settings by group, as in ``train={"epochs": 30}``.

    Raises:
        ConfigError: an argument that is not accepted.
    """
    check_argument(file, argument, "toy", *accepts)
    config = default_config()
    for name, settings in groups.items():
        config[name].update(settings)
    config.study.update(sweep=sweep, compare="table7", missing_weights="skip")
    if argument == "toy":
        toy(config)
        config.data.synthetic.subjects = 24  # a fold of a fold has several of each class
        config.weights.name = "random"
        config.study.seeds = 1
        config.evaluation.update(inner_folds=2, resamples=200)
    return config


def check_argument(file: str, argument: str, *arguments: str) -> None:
    """Checks the text after the colon of ``--config=NAME:ARGUMENT``.

    Raises:
        ConfigError: it is neither empty nor among `arguments`.
    """
    if argument and argument not in arguments:
        name = Path(file).with_suffix("").as_posix().rpartition("configs/")[2]
        raise ConfigError(f"config {name} has no argument {argument!r}; it accepts {', '.join(arguments)}, or none")
