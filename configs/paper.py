r"""The paper's 32 cells: VGG16 and ResNet50, Adam and RMSprop, 10 to 100 epochs, beside its published tables.

    alljax study --config=configs/paper.py --workdir=runs/paper --config.data.source=C-NMC_Leukemia.zip

Frozen backbones, average pooling, Dense(512) and softmax, batches of 32, learning rate 1e-4 times .95 every 900
steps, a stratified random split of cells into 8,528 and 2,133.  The eight budgets are beginnings of one run
(--config.study.budgets=separate gives each a run of its own), so that four runs of 100 epochs make the 32 cells.  Two
CPU cores take about 50 minutes, 48 of them for the features.  Look at "Against the paper": every published number
with ours, the difference, and whether it lies within the noise.

The text after the colon joins words with commas, as in ``configs/paper.py:keras,both``:

    both    the same with people held out (subject_kfold, 5 folds) beside the paper's split: 64 cells, six times the
            head runs.  It says what the leak was worth.
    keras   Keras's weights of both networks, and ResNet50 as Keras builds it: most likely what the authors had.
    small   two stages of EfficientNet-Lite0 in place of the two networks: it needs no download.
    toy     earlier stages still, and 96 generated cells of 64 × 64 pixels.

Without C-NMC, --config.data.synthetic.manifest=manifest.csv generates images for the true names and subjects.
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
    """Returns the paper's study; see the words above for what may follow the colon."""
    words = set(argument.split(",")) - {""}
    if unknown := words - {"both", "keras", "small", "toy"}:
        raise ConfigError(
            f"configs/paper.py takes both, keras, small or toy, joined with commas; not {sorted(unknown)[0]!r}"
        )
    chosen = words & NETWORKS.keys()
    if len(chosen) > 1:
        raise ConfigError(f"configs/paper.py: {' and '.join(sorted(chosen))} name different networks; take one of them")
    config = default_config()
    config.model.update(pool="average", hidden=512)
    config.split.update(protocol="paper", test_fraction=0.2, stratified=True, folds=5)
    config.train.update(batch_size=32, learning_rate=1e-4, decay_steps=900, decay_rate=0.95)
    config.study.compare = "paper"
    config.study.sweep = (
        *((("split.protocol", ("paper", "subject_kfold")),) if "both" in words else ()),
        NETWORKS[chosen.pop() if chosen else ""],
        ("train.optimizer", ("adam", "rmsprop")),
        ("train.epochs", (10, 20, 30, 40, 50, 60, 80, 100)),
    )
    if "toy" in words:
        config.data.synthetic.update(images=96, subjects=12, image_size=64)
        config.preprocessing.image_size = 64
        config.split.folds = 3
        config.evaluation.resamples = 200
    return config
