r"""What the paper does not say: 12 set-ups of its study, ranked by their distance to its tables.

    alljax study --config=configs/paper_variants.py --workdir=runs/variants \
        --config.data.source=C-NMC_Leukemia.zip

Preprocessing (1/255 | caffe | torch) × pooling (average | flatten) × views (one | dihedral) × VGG16 and ResNet50 ×
Adam and RMSprop × 8 budgets: 384 cells, in which each network's features are computed for 3 preprocessings, of the
images and of their eight views.  Look at the ranking, and at the paragraph that says what it supports; on anything but
the whole of C-NMC it supports nothing.

Flattened features are wide (25,088 for VGG16, 100,352 for ResNet50): of 10,661 images 1.1 GB and 4.3 GB, of eight
views 8.6 GB and 34 GB, read from disk where they do not fit; `--dry_run` says it first.  To do less:
--config.study.sweep with fewer values, and --shard=i/n for several machines.

    alljax study --config=configs/paper_variants.py:keras --workdir=runs/variants \
        --config.data.source=C-NMC_Leukemia.zip

The same with Keras's weights and its ResNet50, most likely what the authors had.  With ``:small`` two stages of
EfficientNet-Lite0 stand in for the networks and nothing is downloaded (half an hour for 512 cells on two CPU cores);
with ``:toy`` earlier ones do, on 96 generated cells of 64 × 64 pixels, with two preprocessings, Adam alone and two
budgets.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.errors import ConfigError

NETWORKS = {
    "": ("model.backbone", ("vgg16", "resnet50")),
    "keras": (
        ("model.backbone", "weights.name"),
        (("vgg16", "keras-vgg16-notop"), ("resnet50_keras", "keras-resnet50-notop")),
    ),
    "small": ("model.stage", ("head", "stage5")),
    "toy": ("model.stage", ("stage3", "stage2")),
}
"""The first of a pair plays the paper's VGG16, the second its ResNet50."""


def get_config(argument: str = "") -> ConfigDict:
    """Returns the 12 variants of the paper's study, with ``:keras``, ``:small`` or ``:toy`` those of other networks."""
    if argument not in NETWORKS:
        raise ConfigError(f"configs/paper_variants.py takes no argument, or keras, small or toy; not {argument!r}")
    config = default_config()
    config.split.update(protocol="paper", test_fraction=0.2, stratified=True)
    config.train.update(batch_size=32, learning_rate=1e-4, decay_steps=900, decay_rate=0.95)
    config.study.update(compare="variants", checkpoints=False)  # 384 heads, of up to 205 MB, that nobody asked for
    preprocessings: tuple[str, ...] = ("rescale", "caffe", "torch")
    optimizers: tuple[str, ...] = ("adam", "rmsprop")
    epochs: tuple[int, ...] = (10, 20, 30, 40, 50, 60, 80, 100)
    if argument == "toy":
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.preprocessing.image_size = 64
        config.model.hidden = 64
        config.evaluation.resamples = 200
        preprocessings, optimizers, epochs = ("rescale", "torch"), ("adam",), (10, 20)
    config.study.sweep = (
        ("preprocessing.name", preprocessings),
        ("model.pool", ("average", "flatten")),
        ("features.augment", ("none", "dihedral")),
        NETWORKS[argument],
        ("train.optimizer", optimizers),
        ("train.epochs", epochs),
    )
    return config
