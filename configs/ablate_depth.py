r"""How deep: which stage's features a head learns from; and how many blocks learn with it.

    alljax study --config=configs/ablate_depth.py --workdir=runs/depth

Generated cells, EfficientNet-Lite0 frozen and cut after each of its stages, 30 epochs, 3 seeds, people held out (5
folds): 8 cells, a minute on two CPU cores: one pass gives all stages.  Look for the stage from which on more depth
does not help: features of cells, which are textures and outlines, often come before those of ImageNet's objects.

    alljax study --config=configs/ablate_depth.py:unfrozen --workdir=runs/unfrozen

The network frozen, and fine-tuned from its end: stage 7, two stages, three stages, at a tenth of the head's rate; 128
× 128 pixels, one part of the people tested, 5 epochs: 4 cells, two and a half minutes on two CPU cores.  Look at
whether the gain over frozen features is larger than its interval.

    alljax study --config=configs/ablate_depth.py:vgg16 --workdir=runs/depth --config.data.source=C-NMC_Leukemia.zip

The five blocks of VGG16, on C-NMC: 5 cells, about an hour on two CPU cores.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7", "head")


def get_config(argument: str = "") -> ConfigDict:
    """Returns stages to cut after, or with ``:unfrozen`` numbers of them that learn; ``toy`` makes either small."""
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    match argument:
        case "":
            config.study.sweep = (("model.stage", STAGES),)
        case "vgg16":
            config.model.backbone = "vgg16"
            config.train.epochs = 100
            config.study.sweep = (("model.stage", ("block1", "block2", "block3", "block4", "block5")),)
        case "unfrozen":
            unfreeze(config, ("stage7",), ("stage6", "stage7"), ("stage5", "stage6", "stage7"))
            config.preprocessing.image_size = 128
        case "toy":
            toy(config)
            config.study.sweep = (("model.stage", ("stage2", "stage3")),)
        case "unfrozen,toy":
            unfreeze(config, ("stage2",))
            toy(config)
        case _:
            raise ConfigError(
                f"configs/ablate_depth.py takes no argument, vgg16, unfrozen, toy or unfrozen,toy; not {argument!r}"
            )
    return config


def unfreeze(config: ConfigDict, *learning: tuple[str, ...]) -> None:
    """Sets the frozen network beside ones in which these stages learn with the head."""
    config.model.stage = learning[0][-1]
    config.split.protocol = "subject_holdout"
    config.train.update(epochs=5, learning_rate=1e-3, bn_momentum=0.9)
    config.study.seeds = 1
    rows = [("finetune", groups(config.model.stage, stages)) for stages in learning]
    config.study.sweep = ((("train.mode", "train.groups"), (("frozen", ()), *rows)),)


def groups(last: str, learning: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """Returns ``train.groups`` in which the head and these stages learn, and no others up to the last."""
    used = ("stem", *STAGES[: STAGES.index(last) + 1])
    frozen = "|".join(stage for stage in used if stage not in learning)
    return (("head/.*", 1.0), *((f"backbone/{stage}/.*", 0.1) for stage in learning), (f"backbone/({frozen})/.*", 0.0))


def toy(config: ConfigDict) -> None:
    """Makes a study small."""
    config.data.synthetic.update(images=96, subjects=12, image_size=64)
    config.preprocessing.image_size = 64
    config.split.folds = 3
    config.train.epochs = 2
