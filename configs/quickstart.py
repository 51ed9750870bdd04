r"""From a folder of images to a trained head, its metrics with intervals, and a report.

    alljax study --config=quickstart --workdir=runs/quickstart

Generated images (600 of 24 subjects), frozen EfficientNet-Lite0 with real ImageNet weights, heads trained with Adam and
with RMSprop for 6 epochs, 5 folds of subjects, 3 seeds.  Expect an AUC of .93 [.81, .98] for both and .83 [.69, .91]
for the size of the cell: not distinguishable with 24 subjects.  About 25 seconds on two CPU cores.

    alljax study --config=quickstart:cnmc --workdir=runs/cnmc \
        --config.data.source=C-NMC_Leukemia.zip --config.weights.path=vgg16-397923af.pth

The same on C-NMC 2019 with VGG16.  On 512 of its training images (with --config.data.allow_partial=true) expect an AUC
of .77 [.61, .88]; one and a half minutes on two CPU cores, nearly all of it for VGG16's features (computed once).
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns the quickstart for generated images, or for C-NMC with ``:cnmc``."""
    config = frozen_study(__file__, argument, ("train.optimizer", ("adam", "rmsprop")))
    if not argument:
        config.train.epochs = 6  # more make heads on features of generated cells no better
    return config
