r"""Our reading of [25]: attention modules on the trunk of a ResNet50.

    alljax study --config=table7/residual_attention --workdir=runs/residual_attention \
        --config.data.source=C-NMC_Leukemia.zip

Residual attention (Wang et al., CVPR 2017), from scratch: there are no published weights.  The reference [25] of the
paper is wrong; its number is of malaria cells.  A job for a GPU.  ``:toy``: 64 pixels, one stage, a
minute.
"""

from ml_collections import ConfigDict

from configs.common import method


def get_config(argument: str = "") -> ConfigDict:
    """Returns the study of one trial."""
    return method(
        __file__,
        argument,
        model={
            "label": "residual_attention", "backbone": "residual_attention",
            "stage": "stage1" if argument == "toy" else "",
        },
        weights={"name": "random"},
        classifier={"name": "linear"},
        train={
            "mode": "finetune", "groups": (("(head|backbone)/.*", 1.0),), "optimizer": "sgd", "momentum": 0.9,
            "learning_rate": 0.01, "weight_decay": 1e-4,
            "schedule": "cosine", "batch_size": 32, "epochs": 50,
        },
        augment={"flips": True, "quarter_turns": True},
    )  # fmt: skip
