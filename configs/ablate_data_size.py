"""A learning curve over subjects: would more subjects help?

    alljax study --config=ablate_data_size --workdir=runs/data_size

Generated images of 24 subjects, frozen EfficientNet-Lite0, 30 epochs, 5 folds of subjects, 3 repeats: 5 trials, with 2
training subjects (one per class) up to 16, and with all that are not tested.  One minute on two CPU cores.  Smaller
training sets are subsets of larger ones, and the tested subjects are the same.  Does the curve still increase at its
right end, and by how much compared with the settings of the other ablations?  C-NMC with ``:cnmc`` (see
``configs/common.py``), up to 32 of the 66 subjects of the training set, and all: 6 trials in about 50 minutes.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns a learning curve."""
    subjects = {"toy": (2, 0), "cnmc": (2, 4, 8, 16, 32, 0)}.get(argument, (2, 4, 8, 16, 0))
    config = frozen_study(__file__, argument, ("split.train_subjects", subjects))
    config.study.seeds = 2 if argument == "toy" else 1
    config.split.repeats = 3
    return config
