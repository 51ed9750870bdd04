"""Settings that several studies share."""

from pathlib import Path

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def ablation(file: str, argument: str, *arguments: str) -> ConfigDict:
    """Returns the settings of an ablation: 30 epochs and 3 seeds on generated images, or a toy with ``toy``.

    Args:
        file: of the config, for messages.
        argument: the text after the colon of ``--config=FILE:ARGUMENT``.
        arguments: what the config accepts besides ``toy``.

    Raises:
        ConfigError: an argument that is not accepted.
    """
    check_argument(file, argument, "toy", *arguments)
    config = default_config()
    config.train.epochs = 30
    config.study.seeds = 3
    if argument == "toy":
        toy(config)
        config.model.stage = "stage3"
    return config


def toy(config: ConfigDict) -> None:
    """Makes a study small: 96 generated images of 64 × 64 pixels, 3 folds, 2 epochs, 2 seeds."""
    config.data.synthetic.update(images=96, subjects=12, image_size=64)
    config.preprocessing.image_size = 64
    config.split.folds = 3
    config.train.epochs = 2
    config.study.seeds = 2


def check_argument(file: str, argument: str, *arguments: str) -> None:
    """Checks the text after the colon of ``--config=FILE:ARGUMENT``.

    Raises:
        ConfigError: it is neither empty nor among `arguments`.
    """
    if argument and argument not in arguments:
        name = Path(file).name
        raise ConfigError(f"configs/{name} has no argument {argument!r}; it accepts {', '.join(arguments)}, or none")


def paper_networks(word: str) -> tuple[object, object]:
    """Returns the entry of ``study.sweep`` with the two networks of the paper.

    Args:
        word: ``""`` for VGG16 and ResNet50, ``keras`` for Keras's weights and ResNet50, ``small`` for two stages of
            EfficientNet-Lite0 in their place, ``toy`` for two earlier stages.
    """
    networks: dict[str, tuple[object, object]] = {
        "": ("model.backbone", ("vgg16", "resnet50")),
        "keras": (
            ("model.backbone", "weights.name"),
            (("vgg16", "keras-vgg16-notop"), ("resnet50_keras", "keras-resnet50-notop")),
        ),
        "small": ("model.stage", ("head", "stage5")),
        "toy": ("model.stage", ("stage3", "stage2")),
    }
    return networks[word]
