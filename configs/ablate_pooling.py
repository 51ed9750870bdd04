"""Pooling of the activations: average, maximum, or none (flatten).

    alljax study --config=ablate_pooling --workdir=runs/pooling

Generated images, frozen EfficientNet-Lite0 up to stage 7, 30 epochs, 3 seeds, 5 folds of subjects: 3 trials in three
minutes on two CPU cores, most of them for heads on 15,680 flattened features.  Compare flatten, which the paper may
have used, with average, whose head has 49 times fewer parameters; and the training curves.  C-NMC with ``:cnmc`` (see
``configs/common.py``): three and a half hours, most of them for heads on 25,088 flattened features.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns three ways of pooling."""
    config = frozen_study(__file__, argument, ("model.pool", ("average", "max", "flatten")))
    if argument != "toy":
        config.model.stage = "block5" if argument == "cnmc" else "stage7"
    return config
