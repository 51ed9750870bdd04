r"""From a folder of images to a trained head, its metrics with intervals, and a report.

    alljax study --config=configs/quickstart.py --workdir=runs/quickstart

Generated images (600 of 24 subjects), frozen EfficientNet-Lite0 with real ImageNet weights, heads trained with Adam and
with RMSprop, 5 folds of subjects, 3 seeds.  Expect an AUC of .97 [.92, .99] for both; 15 seconds on two CPU cores.

    alljax study --config=configs/quickstart.py:cnmc --workdir=runs/cnmc \
        --config.data.source=C-NMC_Leukemia.zip --config.weights.path=vgg16-397923af.pth

The same on C-NMC 2019 with VGG16.  On 512 of its training images (with --config.data.allow_partial=true) expect an AUC
of .77 [.69, .85]; one and a half minutes on two CPU cores, nearly all of it for VGG16's features (computed once).
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from configs.common import check_argument


def get_config(argument: str = "") -> ConfigDict:
    """Returns the quickstart for generated images, or for C-NMC with ``:cnmc``."""
    check_argument(__file__, argument, "cnmc")
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (("train.optimizer", ("adam", "rmsprop")),)
    if argument == "cnmc":
        config.model.backbone = "vgg16"
        config.train.epochs = 100
    return config
