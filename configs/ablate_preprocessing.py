r"""Four preprocessings of the same images.

    alljax study --config=configs/ablate_preprocessing.py --workdir=runs/preprocessing

Generated images, frozen EfficientNet-Lite0, 30 epochs, 3 seeds, 5 folds of subjects: 4 trials in one and a half minutes
on two CPU cores.  The weights were trained with "lite" (those of torchvision with "torch", those of Keras with
"caffe"): how much do the others lose, and is it more than the interval of the difference?

    alljax study --config=configs/ablate_preprocessing.py --workdir=runs/preprocessing \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.train.epochs=100

C-NMC: two and a half hours on two CPU cores, because features are computed four times.
"""

from ml_collections import ConfigDict

from configs.common import ablation


def get_config(argument: str = "") -> ConfigDict:
    """Returns four preprocessings of one backbone, or a toy with ``:toy``."""
    config = ablation(__file__, argument)
    names = ("lite", "caffe") if argument == "toy" else ("lite", "torch", "caffe", "rescale")
    config.study.sweep = (("preprocessing.name", names),)
    return config
