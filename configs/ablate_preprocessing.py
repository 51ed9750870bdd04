r"""What the network is shown: four preprocessings of the same images.

    alljax study --config=configs/ablate_preprocessing.py --workdir=runs/preprocessing

Generated cells, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, people held out (5 folds): 4 cells, a minute and a
half on two CPU cores.  The weights were trained with one of the four ("lite"; of torchvision "torch", of Keras
"caffe"): look at how much the others lose, and whether more than the interval of the difference.

    alljax study --config=configs/ablate_preprocessing.py --workdir=runs/preprocessing \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.train.epochs=100

On C-NMC two CPU cores take two and a half hours: features are computed four times.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns four preprocessings of one network, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (("preprocessing.name", ("lite", "torch", "caffe", "rescale")),)
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
        config.study.sweep = (("preprocessing.name", ("lite", "caffe")),)
    elif argument:
        raise ConfigError(f"configs/ablate_preprocessing.py takes no argument, or 'toy'; not {argument!r}")
    return config
