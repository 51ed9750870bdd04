r"""Who is tested: what a split of cells flatters, and how much the honest protocols differ.

    alljax study --config=configs/ablate_split.py --workdir=runs/split

Generated cells of 24 people, frozen EfficientNet-Lite0, 30 epochs, 3 seeds: 4 cells on one set of features, two
minutes on two CPU cores, most of them for 24 folds of one person.  Under "paper" every tested cell has its person
among the training cells: look at how far its number lies above the others, which is what the leak was worth, and at
its interval, which is too narrow in spite of it.

    alljax study --config=configs/ablate_split.py:cnmc --workdir=runs/split --config.data.source=C-NMC_Leukemia.zip

The published folds too, with people kept whole and as they are: 6 cells, about an hour on two CPU cores.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns four protocols, with ``:cnmc`` the published folds too, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    protocols: tuple[str, ...] = ("paper", "subject_kfold", "subject_holdout", "leave_one_subject_out")
    if argument == "cnmc":
        config.model.backbone = "vgg16"
        config.train.epochs = 100
        config.study.seeds = 1
        protocols = (*protocols, "official_folds", "official_folds_by_name")
    elif argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.model.stage = "stage3"
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.train.epochs = 2
        config.study.seeds = 2
    elif argument:
        raise ConfigError(f"configs/ablate_split.py takes no argument, 'cnmc' or 'toy'; not {argument!r}")
    config.study.sweep = (("split.protocol", protocols),)
    return config
