r"""Our reading of [9]: a network of six convolutions and ResNet18, trained from scratch, then on other images.

    alljax study --config=table7/histonet_transfer --workdir=runs/histonet \
        --config.data.source=C-NMC_Leukemia.zip

Both from scratch on the images of this study, as the report says.  As in the source: SGD with momentum, halved every
20 epochs (of 8,528 images), flips and quarter turns, pixels without normalization.  A job for a GPU.
``:toy``: 64 pixels, early stages, a minute.

    alljax study --config=table7/histonet_transfer:histonet --workdir=runs/transfer \
        --config.data.source=C-NMC_Leukemia.zip --config.weights.path=histonet.safetensors

The second stage of the source, with one network (``:histonet`` or ``:resnet18``) that was trained by the first command
with another --config.data.source, such as histology, and written by ``alljax export --trial=histonet_transfer``.
"""

from ml_collections import ConfigDict

from configs.common import method

NETWORKS = {"histonet": "block2", "resnet18": "stage1"}
"""Backbones and their stages with ``:toy``."""


def get_config(argument: str = "") -> ConfigDict:
    """Returns both networks from scratch, or one that continues."""
    rows = [
        (f"{name}_transfer", name, stage if argument == "toy" else "")
        for name, stage in NETWORKS.items()
        if argument in ("", "toy", name)
    ]
    return method(
        __file__,
        argument,
        *([(("model.label", "model.backbone", "model.stage"), tuple(rows))] if rows else []),
        accepts=tuple(NETWORKS),
        weights={"name": "" if argument in NETWORKS else "random"},
        preprocessing={"name": "rescale"},
        classifier={"name": "linear"},
        train={
            "mode": "finetune", "groups": (("(head|backbone)/.*", 1.0),), "optimizer": "sgd", "momentum": 0.9,
            "learning_rate": 0.02, "weight_decay": 5e-4,
            "decay_steps": 20 * 1066, "decay_rate": 0.5, "staircase": True, "batch_size": 8, "epochs": 100,
        },
        augment={"flips": True, "quarter_turns": True},
    )  # fmt: skip
