r"""The depth of the features, and the number of trainable stages.

    alljax study --config=configs/ablate_depth.py --workdir=runs/depth

Generated images, frozen EfficientNet-Lite0 up to each of its stages, 30 epochs, 3 seeds, 5 folds of subjects: 8 trials
in one minute on two CPU cores, since one pass gives the features of all stages.  From which stage on does more depth
no longer help?  Textures and outlines of cells are often in earlier stages than the objects of ImageNet.

    alljax study --config=configs/ablate_depth.py:unfrozen --workdir=runs/unfrozen

The backbone frozen, and with its last one, two and three stages fine-tuned at a tenth of the head's learning rate; 128
× 128 pixels, a holdout of subjects, 5 epochs: 4 trials in two and a half minutes on two CPU cores.  Is the gain over
frozen features larger than its interval?

    alljax study --config=configs/ablate_depth.py:vgg16 --workdir=runs/depth --config.data.source=C-NMC_Leukemia.zip

The five blocks of VGG16 on C-NMC: 5 trials in about an hour on two CPU cores.  ``:toy`` and ``:unfrozen,toy`` are
small versions.
"""

from ml_collections import ConfigDict

from configs.common import ablation, toy

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7", "head")


def get_config(argument: str = "") -> ConfigDict:
    """Returns stages as features, or with ``:unfrozen`` stages that are fine-tuned."""
    config = ablation(__file__, argument, "vgg16", "unfrozen", "unfrozen,toy")
    match argument:
        case "vgg16":
            config.model.backbone = "vgg16"
            config.train.epochs = 100
            config.study.sweep = (("model.stage", ("block1", "block2", "block3", "block4", "block5")),)
        case "unfrozen":
            unfreeze(config, ("stage7",), ("stage6", "stage7"), ("stage5", "stage6", "stage7"))
            config.preprocessing.image_size = 128
        case "unfrozen,toy":
            unfreeze(config, ("stage2",))
            toy(config)
            config.study.seeds = 1
        case "toy":
            config.model.stage = ""
            config.study.sweep = (("model.stage", ("stage2", "stage3")),)
        case _:
            config.study.sweep = (("model.stage", STAGES),)
    return config


def unfreeze(config: ConfigDict, *trainable: tuple[str, ...]) -> None:
    """Compares the frozen backbone with fine-tuning of each of these groups of stages."""
    config.model.stage = trainable[0][-1]
    config.split.protocol = "subject_holdout"
    config.train.update(epochs=5, learning_rate=1e-3, bn_momentum=0.9)
    config.study.seeds = 1
    rows = [("finetune", groups(config.model.stage, stages)) for stages in trainable]
    config.study.sweep = ((("train.mode", "train.groups"), (("frozen", ()), *rows)),)


def groups(last: str, trainable: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """Returns ``train.groups`` with the head and these stages trainable and the others, up to `last`, frozen."""
    used = ("stem", *STAGES[: STAGES.index(last) + 1])
    frozen = "|".join(stage for stage in used if stage not in trainable)
    return (("head/.*", 1.0), *((f"backbone/{stage}/.*", 0.1) for stage in trainable), (f"backbone/({frozen})/.*", 0.0))
