"""Batch size × learning rate.

    alljax study --config=ablate_batch --workdir=runs/batch

Generated images, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, 5 folds of subjects: 12 trials in two and a half
minutes on two CPU cores.  The number of epochs is the same, so small batches take more steps: compare a large batch at
its better learning rate, not at the same one.  C-NMC with ``:cnmc`` (see ``configs/common.py``): a little more than an
hour, half of it for the features.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns six batch sizes at two learning rates."""
    sizes = (8, 32) if argument == "toy" else (8, 16, 32, 64, 128, 256)
    return frozen_study(__file__, argument, ("train.batch_size", sizes), ("train.learning_rate", (1e-4, 1e-3)))
