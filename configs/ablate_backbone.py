"""The backbone: EfficientNet-Lite0, ResNet50 and VGG16, each with its own ImageNet weights and preprocessing.

    alljax study --config=ablate_backbone --workdir=runs/backbone

Generated images, frozen backbones, 30 epochs, 3 seeds, 5 folds of subjects: 3 trials in about three minutes on two CPU
cores.  Missing weights are downloaded (ResNet50 103 MB, VGG16 553 MB), or read from a folder with
--config.weights.path=FOLDER.  Compare the intervals of the differences, and the cost: per image VGG16 takes 31 GFLOP,
ResNet50 8, EfficientNet-Lite0 0.8.  C-NMC with ``:cnmc`` (see ``configs/common.py``): about 75 minutes.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns three backbones; two stages of EfficientNet-Lite0 with ``:toy``."""
    if argument == "toy":
        return frozen_study(__file__, argument, ("model.stage", ("stage2", "stage3")))
    return frozen_study(__file__, argument, ("model.backbone", ("efficientnet_lite0", "resnet50", "vgg16")))
