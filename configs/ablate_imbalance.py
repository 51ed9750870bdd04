r"""Two leukemic cells to every healthy one: class weights, focal loss, resampling, or nothing.

    alljax study --config=configs/ablate_imbalance.py --workdir=runs/imbalance

Generated cells (68 % leukemic, as in C-NMC), frozen EfficientNet-Lite0, 30 epochs, 3 seeds, people held out (5
folds): 4 cells, a minute on two CPU cores.  Look at sensitivity and specificity, which these settings trade for one
another, before accuracy; the AUC, which knows no threshold, says whether anything was gained.

    alljax study --config=configs/ablate_imbalance.py --workdir=runs/imbalance \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.train.epochs=100

On C-NMC two CPU cores take three quarters of an hour, most of it for the features.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns four answers to unequal classes, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (
        (
            ("train.class_weights", "train.loss", "train.sampling"),
            (
                ("none", "cross_entropy", "each"),
                ("balanced", "cross_entropy", "each"),
                ("none", "focal", "each"),
                ("none", "cross_entropy", "balanced"),
            ),
        ),
    )
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
    elif argument:
        raise ConfigError(f"configs/ablate_imbalance.py takes no argument, or 'toy'; not {argument!r}")
    return config
