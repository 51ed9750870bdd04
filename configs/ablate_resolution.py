"""Input image size.

    alljax study --config=ablate_resolution --workdir=runs/resolution

Generated images of 224 × 224 pixels, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, 5 folds of subjects: 5 trials, each
with its own features, in 75 seconds on two CPU cores.  Where do smaller images begin to lose, compared with their
cost?  The time for features is proportional to the number of pixels.  C-NMC with ``:cnmc`` (see ``configs/common.py``):
one and a half hours.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns five image sizes."""
    sizes = (32, 64) if argument == "toy" else (64, 96, 128, 160, 224)
    return frozen_study(__file__, argument, ("preprocessing.image_size", sizes))
