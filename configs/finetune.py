r"""The last block of VGG16 and a head, fine-tuned on images.

    alljax study --config=configs/finetune.py --workdir=runs/finetune --config.data.source=C-NMC_Leukemia.zip \
        --config.weights.path=vgg16-397923af.pth

Frozen VGG16 but for its last block, 128 × 128 pixels, people held out (5 folds), 4 epochs.  On 512 cells of C-NMC (with
--config.data.allow_partial=true) expect an AUC of .75 [.68, .86], where 100 epochs of a head on the frozen network have
.81 [.73, .88]: so few cells of so few people do not pay for more parameters.  About ten minutes on two idle CPU cores.

    alljax study --config=configs/finetune.py:toy --workdir=runs/toy

Generated cells, the first stages of EfficientNet-Lite0 really fine-tuned, a checkpoint every few steps; under a minute
on two CPU cores.  It is what the fault tests kill.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError


def get_config(argument: str = "") -> ConfigDict:
    """Returns the fine-tuning of VGG16's last block, or a toy of it with ``:toy``."""
    config = default_config()
    config.train.mode = "finetune"
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=8, image_size=64)
        config.model.update(stage="stage2", hidden=32, dropout=0.2)
        config.preprocessing.image_size = 64
        config.split.update(protocol="subject_holdout", test_fraction=0.25, validation=0.25)
        config.train.update(
            epochs=6,
            batch_size=8,
            learning_rate=1e-3,
            groups=(("head/.*", 1.0), ("backbone/stage2/.*", 0.3), ("backbone/(stem|stage1)/.*", 0.0)),
            ema_decay=0.9,
            bn_momentum=0.8,  # 36 steps are too few for the backbone's own .99
            clip_norm=1.0,
            checkpoint_steps=4,
            log_steps=2,
        )
    elif argument:
        raise ConfigError(f"configs/finetune.py takes no argument, or 'toy'; not {argument!r}")
    else:
        config.model.backbone = "vgg16"
        config.preprocessing.image_size = 128
        config.train.update(
            epochs=4,
            learning_rate=1e-4,
            groups=(("head/.*", 1.0), ("backbone/block5/.*", 0.3), ("backbone/block[1-4]/.*", 0.0)),
            checkpoint_steps=50,
        )
    return config
