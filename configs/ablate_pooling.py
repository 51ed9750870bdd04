r"""Activations to features: average, maximum, or all of them (flatten).

    alljax study --config=configs/ablate_pooling.py --workdir=runs/pooling

Generated cells, frozen EfficientNet-Lite0 up to its stage 7, 30 epochs, 3 seeds, people held out (5 folds): 3 cells,
three minutes on two CPU cores, most of it for heads on 15,680 flattened features.  Look at the difference between
flatten, which the paper may have used, and average, which has 49 times fewer parameters; and at flatten's training
curve, which runs ahead.

    alljax study --config=configs/ablate_pooling.py --workdir=runs/pooling \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.model.stage=block5 \
        --config.train.epochs=100

On C-NMC two CPU cores take three and a half hours, most of them for heads on 25,088 flattened features.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns three ways from activations to features, or a toy of it with ``:toy``."""
    config = default_config()
    config.model.stage = "stage7"
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (("model.pool", ("average", "max", "flatten")),)
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
    elif argument:
        raise ConfigError(f"configs/ablate_pooling.py takes no argument, or 'toy'; not {argument!r}")
    return config
