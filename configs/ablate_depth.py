"""The depth of the features, and the number of trainable stages.

    alljax study --config=ablate_depth --workdir=runs/depth

Generated images, frozen EfficientNet-Lite0 up to each of its stages, 30 epochs, 3 seeds, 5 folds of subjects: 8 trials
in one minute on two CPU cores, since one pass gives the features of all stages.  From which stage on does more depth
no longer help?  Textures and outlines of cells are often in earlier stages than the objects of ImageNet.  C-NMC with
``:cnmc`` (see ``configs/common.py``), the five blocks of VGG16: about an hour.

    alljax study --config=ablate_depth:unfrozen --workdir=runs/unfrozen

The backbone frozen, and with its last one, two and three stages fine-tuned at a tenth of the head's learning rate; 128
× 128 pixels, a holdout of subjects, 5 epochs: 4 trials in two and a half minutes on two CPU cores.  Is the gain over
frozen features larger than its interval?  ``:unfrozen,toy`` is a small version.
"""

from ml_collections import ConfigDict

from configs.common import frozen_study


def get_config(argument: str = "") -> ConfigDict:
    """Returns stages as features, or with ``:unfrozen`` stages that are fine-tuned."""
    kind, _, size = argument.partition(",")
    if kind == "unfrozen":
        return unfrozen(argument, ("stage2",) if size else ("stage7", "stage6", "stage5"))
    stages = {"toy": ("stage2", "stage3"), "cnmc": tuple(f"block{number}" for number in range(1, 6))}
    default = (*(f"stage{number}" for number in range(1, 8)), "head")
    return frozen_study(__file__, argument, ("model.stage", stages.get(argument, default)))


def unfrozen(argument: str, stages: tuple[str, ...]) -> ConfigDict:
    """Returns the frozen backbone, and fine-tuning of its last stage, of the last two and so on."""
    rows: list[tuple[str, tuple[tuple[str, float], ...]]] = [("frozen", ())]
    for count in range(1, len(stages) + 1):
        trained = [(f"backbone/{stage}/.*", 0.1) for stage in stages[:count]]
        frozen = (f"backbone/(?!{'|'.join(stages[:count])}).*", 0.0)
        rows.append(("finetune", (("head/.*", 1.0), *trained, frozen)))
    config = frozen_study(
        __file__, argument, (("train.mode", "train.groups"), tuple(rows)), accepts=("unfrozen", "unfrozen,toy")
    )
    config.model.stage = stages[0]
    config.split.protocol = "subject_holdout"
    config.train.update(learning_rate=1e-3, bn_momentum=0.9)
    config.study.seeds = 1
    if argument == "unfrozen":
        config.train.epochs = 5
        config.preprocessing.image_size = 128
    return config
