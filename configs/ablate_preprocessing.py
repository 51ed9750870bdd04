"""Four preprocessings of the same images.

    alljax study --config=ablate_preprocessing --workdir=runs/preprocessing

Generated images, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, 5 folds of subjects: 4 trials in one and a half minutes
on two CPU cores.  The weights were trained with "lite" (those of torchvision with "torch", those of Keras with
"caffe"): how much do the others lose, and is it more than the interval of the difference?  C-NMC with ``:cnmc`` (see
``configs/common.py``): two and a half hours, because features are computed four times.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns four preprocessings of one backbone."""
    names = ("lite", "caffe") if argument == "toy" else ("lite", "torch", "caffe", "rescale")
    return frozen_study(__file__, argument, ("preprocessing.name", names))
