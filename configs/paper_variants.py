"""What the paper does not state: 24 configurations of its study, ranked by their distance to its tables.

    alljax study --config=configs/paper_variants.py --workdir=runs/variants --config.data.source=C-NMC_Leukemia.zip

Split (random | stratified) × preprocessing (1/255 | caffe | torch) × pooling (average | flatten) × augmentation (none |
the eight flips and rotations) × VGG16 and ResNet50 × Adam and RMSprop × 8 numbers of epochs: 768 trials.  The report
ranks the configurations and states what the ranking supports; on anything but the complete C-NMC training set it
supports nothing.

Flattened features are large: 25,088 numbers per image for VGG16 and 100,352 for ResNet50, on 10,661 images 1.1 GB and
4.3 GB, with eight views 8.6 GB and 34 GB, read from disk where they do not fit in memory; `--dry_run` reports it.
Shorten --config.study.sweep to do less, or use --shard=i/n on several machines.

``:keras`` uses Keras's weights and its ResNet50, most likely what the authors used.  ``:small`` uses two stages of
EfficientNet-Lite0 in place of the networks and downloads nothing: on 512 images of C-NMC half an hour per split on two
CPU cores.  ``:toy`` uses two earlier stages, 96 generated images of 64 × 64 pixels, one preprocessing, Adam and two
numbers of epochs.
"""

from ml_collections import ConfigDict

from configs import paper
from configs.common import check_argument


def get_config(argument: str = "") -> ConfigDict:
    """Returns the variants of the paper's study; ``:keras``, ``:small`` and ``:toy`` use other networks."""
    check_argument(__file__, argument, "keras", "small", "toy")
    config = paper.get_config(argument)
    networks, optimizers, epochs = config.study.sweep
    preprocessings: tuple[str, ...] = ("rescale", "caffe", "torch")
    if argument == "toy":
        config.model.hidden = 64
        preprocessings, optimizers, epochs = ("rescale",), ("train.optimizer", ("adam",)), ("train.epochs", (10, 20))
    config.split.repeats = 1
    config.study.update(compare="variants", checkpoints=False)  # 768 heads of up to 205 MB
    variants = (("split.stratified", (False, True)), ("preprocessing.name", preprocessings),
                ("model.pool", ("average", "flatten")), ("features.augment", ("none", "dihedral")))  # fmt: skip
    config.study.sweep = (*variants, networks, optimizers, epochs)
    return config
