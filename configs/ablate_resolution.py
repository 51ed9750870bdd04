r"""Input image size.

    alljax study --config=configs/ablate_resolution.py --workdir=runs/resolution

Generated images of 224 × 224 pixels, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, 5 folds of subjects: 5 trials, each
with its own features, in 75 seconds on two CPU cores.  Where do smaller images begin to lose, compared with their
cost?  The time for features is proportional to the number of pixels.

    alljax study --config=configs/ablate_resolution.py --workdir=runs/resolution \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.train.epochs=100

C-NMC: one and a half hours on two CPU cores.
"""

from ml_collections import ConfigDict

from configs.common import ablation


def get_config(argument: str = "") -> ConfigDict:
    """Returns five image sizes, or a toy with ``:toy``."""
    config = ablation(__file__, argument)
    sizes = (32, 64) if argument == "toy" else (64, 96, 128, 160, 224)
    config.study.sweep = (("preprocessing.image_size", sizes),)
    return config
