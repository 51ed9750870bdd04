r"""Optimizer × learning rate × decay.

    alljax study --config=configs/ablate_optimizer.py --workdir=runs/optimizer

Generated cells, frozen EfficientNet-Lite0, 30 epochs (450 steps), 3 seeds, people held out (5 folds): 27 cells on one
set of features; on an accelerator the rates and decays of an optimizer are one compiled call.  Four minutes on two
CPU cores.  Look at how wide the plateau of good rates is, and whether any optimizer is better than the others at its
best rate by more than the interval of the difference.  The paper compares Adam and RMSprop at 1e-4 alone.

    alljax study --config=configs/ablate_optimizer.py --workdir=runs/optimizer \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 \
        --config.train.epochs=100 --config.train.decay_steps=900

On C-NMC two CPU cores take an hour and a half.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns the product of optimizers, rates and decays, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.train.decay_steps = 100
    config.study.seeds = 3
    config.study.sweep = (
        ("train.learning_rate", (1e-5, 1e-4, 1e-3)),
        ("train.optimizer", ("adam", "rmsprop", "sgd")),
        ("train.decay_rate", (1.0, 0.95, 0.8)),
    )
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
        config.study.sweep = (
            ("train.learning_rate", (1e-4, 1e-3)),
            ("train.optimizer", ("adam", "sgd")),
            ("train.decay_rate", (1.0, 0.8)),
        )
    elif argument:
        raise ConfigError(f"configs/ablate_optimizer.py takes no argument, or 'toy'; not {argument!r}")
    return config
