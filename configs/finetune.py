r"""Fine-tuning: the last block of VGG16 and a head, trained on images.

    alljax study --config=finetune --workdir=runs/finetune --config.data.source=C-NMC_Leukemia.zip \
        --config.weights.path=vgg16-397923af.pth

VGG16 frozen except its last block, 128 × 128 pixels, 5 folds of subjects, 4 epochs.  On 512 images of C-NMC (with
--config.data.allow_partial=true) expect an AUC of .75; 100 epochs of a head on the frozen backbone reach .81: so few
images of few subjects are not enough for more parameters.  About ten minutes on two idle CPU cores.

    alljax study --config=finetune:toy --workdir=runs/toy

480 generated images of 24 subjects, the first stages of EfficientNet-Lite0, 14 epochs, a checkpoint every few steps;
half a minute on two CPU cores.  Expect an AUC of .91 [.38, .99]; the size of the cell alone reaches .84.  Over 8 data
seeds the means are .88 and .84, and the network is above the size in 6 of them.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from configs.common import check_argument, toy


def get_config(argument: str = "") -> ConfigDict:
    """Returns the fine-tuning of VGG16's last block, or a toy with ``:toy``."""
    check_argument(__file__, argument, "toy")
    config = default_config()
    config.train.mode = "finetune"
    if argument == "toy":
        toy(config)
        config.data.synthetic.update(images=480, subjects=24)
        config.model.update(stage="stage2", hidden=32, dropout=0.2)
        config.split.update(protocol="subject_holdout", test_fraction=0.4, validation=0.15, folds=5)
        groups = (("head/.*", 1.0), ("backbone/stage2/.*", 0.3), ("backbone/(stem|stage1)/.*", 0.0))
        config.train.update(epochs=14, batch_size=16, learning_rate=2e-3, groups=groups, ema_decay=0.95, clip_norm=1.0)
        config.train.update(bn_momentum=0.8, checkpoint_steps=50, log_steps=10)  # 240 steps are few for momentum .99
        config.study.seeds = 1
    else:
        config.model.backbone = "vgg16"
        config.preprocessing.image_size = 128
        groups = (("head/.*", 1.0), ("backbone/block5/.*", 0.3), ("backbone/block[1-4]/.*", 0.0))
        config.train.update(epochs=4, learning_rate=1e-4, groups=groups, checkpoint_steps=50)
    return config
