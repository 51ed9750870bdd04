r"""A learning curve by subjects: how much more people would help.

    alljax study --config=configs/ablate_data_size.py --workdir=runs/data_size

Generated cells of 24 people, frozen EfficientNet-Lite0, 30 epochs, people held out (5 folds, drawn three times): 5
cells that learn from 2 people, one of each class, up to 16, and from everybody who is not tested.  A minute on two
CPU cores.  The people of a smaller number are among those of a larger one, and the tested ones are always the same.
Look at whether the curve still rises at its right end, and compare it with what the settings of the other ablations
change.

    alljax study --config=configs/ablate_data_size.py:cnmc --workdir=runs/data_size \
        --config.data.source=C-NMC_Leukemia.zip

Up to 32 of the 66 people of C-NMC's training set, and all: 6 cells, about 50 minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns a learning curve, of C-NMC's people with ``:cnmc``, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.split.repeats = 3
    people: tuple[int, ...] = (2, 4, 8, 16, 0)
    if argument == "cnmc":
        config.model.backbone = "vgg16"
        config.train.epochs = 100
        people = (2, 4, 8, 16, 32, 0)
    elif argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
        people = (2, 0)
    elif argument:
        raise ConfigError(f"configs/ablate_data_size.py takes no argument, 'cnmc' or 'toy'; not {argument!r}")
    config.study.sweep = (("split.train_subjects", people),)
    return config
