"""Optimizer × learning rate × decay.

    alljax study --config=ablate_optimizer --workdir=runs/optimizer

Generated images, frozen EfficientNet-Lite0, 30 epochs (450 steps), 3 seeds, 5 folds of subjects: 27 trials on one set
of features in four minutes on two CPU cores.  How wide is the plateau of good learning rates, and is any optimizer at
its best rate better than the others by more than the interval of the difference?  The paper compares Adam and RMSprop
at 1e-4 only.  C-NMC with ``:cnmc`` (see ``configs/common.py``): one and a half hours.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns the product of optimizers, learning rates and decays."""
    toy = argument == "toy"
    config = frozen_study(
        __file__,
        argument,
        ("train.learning_rate", (1e-4, 1e-3) if toy else (1e-5, 1e-4, 1e-3)),
        ("train.optimizer", ("adam", "sgd") if toy else ("adam", "rmsprop", "sgd")),
        ("train.decay_rate", (1.0, 0.8) if toy else (1.0, 0.95, 0.8)),
    )
    config.train.decay_steps = 900 if argument == "cnmc" else 100
    return config
