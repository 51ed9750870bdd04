"""The usual evaluation of pretrained encoders, by subject: whose features does a simple classifier separate best?

    alljax study --config=probe --workdir=runs/probe --config.data.source=C-NMC_Leukemia.zip

Every encoder whose weights are on this machine (``alljax weights fetch NAME`` downloads others; the report lists those
that were left out) with five probes: 45 trials with all nine encoders, ranked with simultaneous intervals. The probes:

- linear: softmax regression by Adam on standardized features, 30 epochs;
- logistic: scikit-learn's logistic regression on standardized features, C = 1;
- logistic as DinoBloom: on features as they are, C = number of features · classes / 100, at most 1,000 iterations
  (Koch et al. 2024, arXiv 2404.05022, and their code);
- 1-NN and 20-NN: nearest neighbors by Euclidean distance, on features as they are, as DinoBloom.

Learning curves of few images, 1, 5, 10, 50 and all per class, with the first three probes and 1-NN, 180 trials with all
encoders; images are drawn over subjects, and the tested images are those of all other trials:

    alljax study --config=probe:few_shot --workdir=runs/few_shot --config.data.source=C-NMC_Leukemia.zip

Features take from 0.02 (EfficientNet-Lite0) to 0.6 seconds (ViT-B/14) per image and core, once; the probes then take
minutes. ``:toy`` has generated images, EfficientNet-Lite0 and a ViT-S/14 of random weights, in less than a minute.
"""

from ml_collections import ConfigDict

from alljax.config import default_config
from configs.common import check_argument, toy

NETWORKS = ("efficientnet_lite0", "mobilenet_v2", "resnet18", "resnet50", "resnet101", "vgg16")
ENCODERS = [(name, "") for name in NETWORKS] + [
    ("dinov2_vits14", "dinov2-vits14"),
    ("dinov2_vitb14", "dinov2-vitb14"),
    ("dinov2_vits14", "dinobloom-s"),
]
KEYS = ("model.label", "classifier.name", "features.select", "classifier.C", "classifier.n_neighbors")
PROBES = (
    ("linear", "linear", ("standardize",), 1.0, 5),
    ("logistic", "logistic", ("standardize",), 1.0, 5),
    ("logistic as DinoBloom", "logistic", (), 0.0, 5),
    ("1-NN", "knn", (), 1.0, 1),
    ("20-NN", "knn", (), 1.0, 20),
)


def get_config(argument: str = "") -> ConfigDict:
    """Returns five probes of every encoder, or four with few training images."""
    check_argument(__file__, argument, "few_shot", "toy")
    config = default_config()
    config.train.update(epochs=30, learning_rate=1e-3, decay_rate=1.0)
    config.classifier.max_iter = 1000
    config.evaluation.inner_folds = 0  # nothing is tuned, and one image per class cannot be divided
    config.study.missing_weights = "skip"
    encoders = (("model.backbone", "weights.name"), tuple(ENCODERS))
    if argument == "toy":
        toy(config)
        config.preprocessing.image_size = 56
        encoders = (("model.backbone", "weights.name"), (("efficientnet_lite0", ""), ("dinov2_vits14", "random")))
    config.study.sweep = ((KEYS, PROBES), encoders)
    if argument == "few_shot":
        config.study.sweep = (("split.train_images", (1, 5, 10, 50, 0)), (KEYS, PROBES[:4]), encoders)
    return config
