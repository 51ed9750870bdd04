r"""Our reading of [8]: MobileNetV2 and ResNet18, combined by weights.

    alljax study --config=table7/mobilenet_resnet_weighted --workdir=runs/mobilenet_resnet \
        --config.data.source=C-NMC_Leukemia.zip

Frozen networks with a softmax on their features, SGD with momentum; the probabilities are averaged with weights
proportional to the accuracies on inner folds of the training subjects: 3 trials.  The source says "transfer learning"
and "probability-based weight factor".  ``:toy``: 64 pixels, early stages, random weights, half a minute.
"""

from ml_collections import ConfigDict

from configs.common import method


def get_config(argument: str = "") -> ConfigDict:
    """Returns both networks and their combination."""
    toy = argument == "toy"
    config = method(
        __file__,
        argument,
        (
            ("model.label", "model.backbone", "model.stage"),
            (
                ("hybrid_mobilenet_v2", "mobilenet_v2", "stage3" if toy else ""),
                ("hybrid_resnet18", "resnet18", "stage1" if toy else ""),
            ),
        ),
        classifier={"name": "linear"},
        train={"optimizer": "sgd", "momentum": 0.9, "learning_rate": 1e-3, "batch_size": 32, "epochs": 30},
    )
    config.study.combine = (("mobilenet_resnet_weighted", "weighted", "hybrid_*"),)
    return config
