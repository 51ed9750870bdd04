r"""From a folder of cells to a trained head, its metrics with intervals, and a report.

    alljax study --config=configs/quickstart.py --workdir=runs/quickstart

Generated cells (600 of 24 people), frozen EfficientNet-Lite0 with real ImageNet weights, heads trained with Adam and
with RMSprop, people held out (5 folds), 3 seeds. Expect an AUC of .97 [.92, .99] for both; a quarter of a minute on
two CPU cores.

    alljax study --config=configs/quickstart.py:cnmc --workdir=runs/cnmc \
        --config.data.source=C-NMC_Leukemia.zip --config.weights.path=vgg16-397923af.pth

The same on C-NMC 2019 with VGG16. On 512 of its training cells (with --config.data.allow_partial=true) expect an AUC
of .77 [.69, .85]; one and a half minutes on two CPU cores, nearly all of it VGG16's features (8 images a second, once).
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns the quickstart for generated cells, or for C-NMC with ``:cnmc``."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    config.study.sweep = (("train.optimizer", ("adam", "rmsprop")),)
    if argument == "cnmc":
        config.model.backbone = "vgg16"
        config.train.epochs = 100  # the paper's longest budget
    elif argument:
        raise ConfigError(f"configs/quickstart.py takes no argument, or 'cnmc'; not {argument!r}")
    return config
