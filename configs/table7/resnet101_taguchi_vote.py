r"""Our reading of [22]: ResNet-101, its settings by Taguchi's method, and the vote of nine models.

    alljax study --config=table7/resnet101_taguchi_vote --workdir=runs/taguchi \
        --config.data.source=C-NMC_Leukemia.zip

Four factors of three levels in an orthogonal array L9, and the vote of all: 10 trials.  Frozen ResNet-101 with a
softmax on its features; the factors of the source are not in its abstract.  The report has the main effects and the
settings that they predict to be best.  ``:prelim``: trained on the training set and tested on the preliminary test
set, as in the source.  ``:toy``: 64 pixels, one stage, random weights, half a minute.
"""

from ml_collections import ConfigDict

from configs.common import method


def get_config(argument: str = "") -> ConfigDict:
    """Returns nine models and their vote."""
    toy = argument == "toy"
    config = method(
        __file__,
        argument,
        ("train.optimizer", ("sgd", "adam", "rmsprop")),
        ("train.learning_rate", (1e-3, 1e-4, 1e-5)),
        ("train.batch_size", (16, 32, 64)),
        ("train.epochs", (2, 3, 4) if toy else (10, 20, 30)),
        accepts=("prelim",),
        model={"label": "resnet101_taguchi", "backbone": "resnet101", "stage": "stage1" if toy else ""},
        classifier={"name": "linear"},
    )
    config.study.update(design="L9", combine=(("resnet101_taguchi_vote", "vote", "resnet101_taguchi-*"),))
    if argument == "prelim":
        config.split.protocol = "prelim"
    return config
