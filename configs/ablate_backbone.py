r"""The network: EfficientNet-Lite0, ResNet50 and VGG16, each with its own ImageNet weights and preprocessing.

    alljax study --config=configs/ablate_backbone.py --workdir=runs/backbone

Generated cells, frozen networks, 30 epochs, 3 seeds, people held out (5 folds): 3 cells.  Weights that are not there
yet are fetched (ResNet50's 103 MB, VGG16's 553 MB), or taken from a folder of files with
--config.weights.path=FOLDER.  Two CPU cores take about three minutes.  Look at the intervals of the differences
before the order, and at the price: one image costs VGG16 31 GFLOP, ResNet50 8, EfficientNet-Lite0 0.8.

    alljax study --config=configs/ablate_backbone.py --workdir=runs/backbone \
        --config.data.source=C-NMC_Leukemia.zip --config.train.epochs=100

On C-NMC two CPU cores take about an hour and a quarter.  With ``:toy`` two stages of EfficientNet-Lite0 stand in for
the networks, and nothing is fetched.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns three networks, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (("model.backbone", ("efficientnet_lite0", "resnet50", "vgg16")),)
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
        config.study.sweep = (("model.stage", ("stage2", "stage3")),)
    elif argument:
        raise ConfigError(f"configs/ablate_backbone.py takes no argument, or 'toy'; not {argument!r}")
    return config
