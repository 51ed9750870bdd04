"""The protocol: what a random split of images gains, and how much the subject-disjoint protocols differ.

    alljax study --config=ablate_split --workdir=runs/split

Generated images of 24 subjects, frozen EfficientNet-Lite0, 30 epochs, 3 seeds: 4 trials on one set of features in two
minutes on two CPU cores, most of them for the 24 folds of one subject each.  Under "paper" the subject of every test
image is in the training set: the difference to the other protocols is the leakage gap, and its interval over images is
too narrow.  C-NMC with ``:cnmc`` (see ``configs/common.py``), the published folds too, with merged subjects and as
published: 6 trials in about an hour.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns four protocols, with ``:cnmc`` the published folds too."""
    protocols: tuple[str, ...] = ("paper", "subject_kfold", "subject_holdout", "leave_one_subject_out")
    if argument == "cnmc":
        protocols = (*protocols, "official_folds", "official_folds_by_name")
    config = frozen_study(__file__, argument, ("split.protocol", protocols))
    if argument == "cnmc":
        config.study.seeds = 1
    return config
