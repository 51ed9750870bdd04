r"""Two leukemic images per normal one: class weights, focal loss, balanced sampling, or none.

    alljax study --config=configs/ablate_imbalance.py --workdir=runs/imbalance

Generated images (68 % leukemic, as in C-NMC), frozen EfficientNet-Lite0, 30 epochs, 3 seeds, 5 folds of subjects: 4
trials in one minute on two CPU cores.  These settings trade sensitivity for specificity; the AUC, which has no
threshold, shows whether anything was gained.

    alljax study --config=configs/ablate_imbalance.py --workdir=runs/imbalance \
        --config.data.source=C-NMC_Leukemia.zip --config.model.backbone=vgg16 --config.train.epochs=100

C-NMC: 45 minutes on two CPU cores, most of them for the features.
"""

from ml_collections import ConfigDict

from configs.common import ablation


def get_config(argument: str = "") -> ConfigDict:
    """Returns four ways to treat unequal classes, or a toy with ``:toy``."""
    config = ablation(__file__, argument)
    config.study.sweep = (
        (
            ("train.class_weights", "train.loss", "train.sampling"),
            (
                ("none", "cross_entropy", "each"),
                ("balanced", "cross_entropy", "each"),
                ("none", "focal", "each"),
                ("none", "cross_entropy", "balanced"),
            ),
        ),
    )
    return config
