r"""The paper's own two networks: VGG16 with Adam and 100 epochs, ResNet50 with RMSprop and 80 epochs.

    alljax study --config=table7/paper_vgg16_resnet50 --workdir=runs/paper_networks \
        --config.data.source=C-NMC_Leukemia.zip

The two rows "Proposed" of Table 7, with subjects held out; all 32 trainings are in the config ``paper``.  Frozen
backbones, average pooling, Dense(512) and softmax.  Features of all of C-NMC should take 20 minutes on two CPU cores.
On 512 of its images (with --config.data.allow_partial=true) expect an AUC of .77 [.61, .88] with VGG16.
``:toy``: 64 pixels, two early stages, random weights, half a minute.
"""

from ml_collections import ConfigDict

from configs.common import method


def get_config(argument: str = "") -> ConfigDict:
    """Returns both networks."""
    toy = argument == "toy"
    return method(
        __file__,
        argument,
        (
            ("model.label", "model.backbone", "model.stage", "train.optimizer", "train.epochs"),
            (
                ("paper_vgg16", "vgg16", "block2" if toy else "", "adam", 2 if toy else 100),
                ("paper_resnet50", "resnet50", "stage1" if toy else "", "rmsprop", 2 if toy else 80),
            ),
        ),
        model={"pool": "average", "hidden": 512},
        train={"batch_size": 32, "learning_rate": 1e-4, "decay_steps": 900, "decay_rate": 0.95},
    )
