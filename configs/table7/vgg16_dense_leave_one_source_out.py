r"""Our reading of [24]: VGG16 with small dense layers, fine-tuned shallowly and deeply, across data sets.

    alljax study --config=table7/vgg16_dense_leave_one_source_out --workdir=runs/vgg16_dense \
        --config.data.source=C-NMC_Leukemia.zip

Shallow: the last block and the head are trained; deep: all blocks.  One layer of 1,024 units with dropout; the sizes
and rates are not in the abstract.  With subjects held out.  A job for a GPU.  ``:toy``: 64 pixels, two blocks, random
weights, a minute.

    alljax study --config=table7/vgg16_dense_leave_one_source_out:sources --workdir=runs/sources \
        --config.data.classes=hem,all \
        --config.data.sources="(('cnmc','C-NMC_Leukemia.zip'),('idb2','ALL-IDB2','healthy=hem,blast=all'))"

The protocol of the source: trained on all data sets but one, which is tested.
"""

from ml_collections import ConfigDict

from configs.common import method


def get_config(argument: str = "") -> ConfigDict:
    """Returns shallow and deep fine-tuning."""
    last = "block2" if argument == "toy" else "block5"
    shallow = (("head/.*", 1.0), (f"backbone/{last}/.*", 0.1), (f"backbone/(?!{last}).*", 0.0))
    config = method(
        __file__,
        argument,
        (
            ("model.label", "train.groups"),
            (
                ("vgg16_dense_shallow", shallow),
                ("vgg16_dense_deep", (("head/.*", 1.0), ("backbone/.*", 0.1))),
            ),
        ),
        accepts=("sources",),
        model={"backbone": "vgg16", "stage": last, "hidden": 1024, "dropout": 0.5},
        train={"mode": "finetune", "learning_rate": 1e-4, "epochs": 20},
        augment={"flips": True, "quarter_turns": True},
    )
    if argument == "sources":
        config.split.protocol = "leave_one_source_out"
    return config
