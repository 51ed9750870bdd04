"""Two leukemic images per normal one: class weights, focal loss, balanced sampling, or none.

    alljax study --config=ablate_imbalance --workdir=runs/imbalance

Generated images (68 % leukemic, as in C-NMC), frozen EfficientNet-Lite0, 30 epochs, 3 seeds, 5 folds of subjects: 4
trials in one minute on two CPU cores.  These settings trade sensitivity for specificity; the AUC, which has no
threshold, shows whether anything was gained.  C-NMC with ``:cnmc`` (see ``configs/common.py``): 45 minutes, most of
them for the features.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns four ways to treat unequal classes."""
    rows = (
        ("none", "cross_entropy", "each"),
        ("balanced", "cross_entropy", "each"),
        ("none", "focal", "each"),
        ("none", "cross_entropy", "balanced"),
    )
    return frozen_study(__file__, argument, (("train.class_weights", "train.loss", "train.sampling"), rows))
