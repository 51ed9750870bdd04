r"""A learning curve over subjects: would more subjects help?

    alljax study --config=configs/ablate_data_size.py --workdir=runs/data_size

Generated images of 24 subjects, frozen EfficientNet-Lite0, 30 epochs, 5 folds of subjects, 3 repeats: 5 trials, with 2
training subjects (one per class) up to 16, and with all that are not tested.  One minute on two CPU cores.  Smaller
training sets are subsets of larger ones, and the tested subjects are the same.  Does the curve still increase at its
right end, and by how much compared with the settings of the other ablations?

    alljax study --config=configs/ablate_data_size.py:cnmc --workdir=runs/data_size \
        --config.data.source=C-NMC_Leukemia.zip

C-NMC with VGG16: up to 32 of the 66 subjects of the training set, and all: 6 trials in about 50 minutes on two CPU
cores.
"""

from ml_collections import ConfigDict

from configs.common import ablation


def get_config(argument: str = "") -> ConfigDict:
    """Returns a learning curve, of C-NMC with ``:cnmc``, or a toy with ``:toy``."""
    config = ablation(__file__, argument, "cnmc")
    config.study.seeds = 2 if argument == "toy" else 1
    config.split.repeats = 3
    subjects = {"": (2, 4, 8, 16, 0), "cnmc": (2, 4, 8, 16, 32, 0), "toy": (2, 0)}
    config.study.sweep = (("split.train_subjects", subjects[argument]),)
    if argument == "cnmc":
        config.model.backbone = "vgg16"
        config.train.epochs = 100
    return config
