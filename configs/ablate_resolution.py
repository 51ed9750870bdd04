r"""Pixels a side given to the network.

    alljax study --config=configs/ablate_resolution.py --workdir=runs/resolution

Generated cells of 224 × 224 pixels, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, people held out (5 folds): 5
cells, each with features of its own; a minute and a quarter on two CPU cores.  Look at where smaller images begin to
lose, against what they cost: features take time in proportion to the number of pixels.

    alljax study --config=configs/ablate_resolution.py --workdir=runs/resolution \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.train.epochs=100

On C-NMC two CPU cores take an hour and a half.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns five sizes of the images, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (("preprocessing.image_size", (64, 96, 128, 160, 224)),)
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
        config.study.sweep = (("preprocessing.image_size", (32, 64)),)
    elif argument:
        raise ConfigError(f"configs/ablate_resolution.py takes no argument, or 'toy'; not {argument!r}")
    return config
