r"""The protocol: what a random split of images gains, and how much the subject-disjoint protocols differ.

    alljax study --config=configs/ablate_split.py --workdir=runs/split

Generated images of 24 subjects, frozen EfficientNet-Lite0, 30 epochs, 3 seeds: 4 trials on one set of features in two
minutes on two CPU cores, most of them for the 24 folds of one subject each.  Under "paper" the subject of every test
image is in the training set: the difference to the other protocols is the leakage gap, and its interval over images is
too narrow.

    alljax study --config=configs/ablate_split.py:cnmc --workdir=runs/split --config.data.source=C-NMC_Leukemia.zip

The published folds of C-NMC too, with merged subjects and as published: 6 trials in about an hour on two CPU cores.
"""

from ml_collections import ConfigDict

from configs.common import ablation


def get_config(argument: str = "") -> ConfigDict:
    """Returns four protocols, with ``:cnmc`` the published folds too, or a toy with ``:toy``."""
    config = ablation(__file__, argument, "cnmc")
    protocols: tuple[str, ...] = ("paper", "subject_kfold", "subject_holdout", "leave_one_subject_out")
    if argument == "cnmc":
        config.model.backbone = "vgg16"
        config.train.epochs = 100
        config.study.seeds = 1
        protocols = (*protocols, "official_folds", "official_folds_by_name")
    config.study.sweep = (("split.protocol", protocols),)
    return config
