r"""Batch size × learning rate.

    alljax study --config=configs/ablate_batch.py --workdir=runs/batch

Generated cells, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, people held out (5 folds): 12 cells, two and a half
minutes on two CPU cores.  Epochs are the same, so that small batches take more steps: look at whether a large batch
does as well once its rate is larger, rather than at its worse number for the same rate.

    alljax study --config=configs/ablate_batch.py --workdir=runs/batch \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.train.epochs=100

On C-NMC two CPU cores take a little more than an hour, half of it for the features.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns six batch sizes at two rates, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (
        ("train.batch_size", (8, 16, 32, 64, 128, 256)),
        ("train.learning_rate", (1e-4, 1e-3)),
    )
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
        config.study.sweep = (("train.batch_size", (8, 32)), ("train.learning_rate", (1e-4, 1e-3)))
    elif argument:
        raise ConfigError(f"configs/ablate_batch.py takes no argument, or 'toy'; not {argument!r}")
    return config
