r"""Pooling of the activations: average, maximum, or none (flatten).

    alljax study --config=configs/ablate_pooling.py --workdir=runs/pooling

Generated images, frozen EfficientNet-Lite0 up to stage 7, 30 epochs, 3 seeds, 5 folds of subjects: 3 trials in three
minutes on two CPU cores, most of them for heads on 15,680 flattened features.  Compare flatten, which the paper may
have used, with average, whose head has 49 times fewer parameters; and the training curves.

    alljax study --config=configs/ablate_pooling.py --workdir=runs/pooling \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.model.stage=block5 \
        --config.train.epochs=100

C-NMC: three and a half hours on two CPU cores, most of them for heads on 25,088 flattened features.
"""

from ml_collections import ConfigDict

from configs.common import ablation


def get_config(argument: str = "") -> ConfigDict:
    """Returns three ways of pooling, or a toy with ``:toy``."""
    config = ablation(__file__, argument)
    if argument != "toy":
        config.model.stage = "stage7"
    config.study.sweep = (("model.pool", ("average", "max", "flatten")),)
    return config
