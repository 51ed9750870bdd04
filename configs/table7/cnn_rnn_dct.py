r"""Our reading of [23]: a convolutional network, an LSTM on its feature map, and an LSTM on cosine spectra.

    alljax study --config=table7/cnn_rnn_dct --workdir=runs/cnn_rnn_dct \
        --config.data.source=C-NMC_Leukemia.zip

Softmax on the features of a frozen VGG16, an LSTM over the 49 pixels of its last feature map, and an LSTM over rows
of blocks of the discrete cosine transform, standardized; each alone and their mean: 4 trials.  On 512 images of C-NMC
(with --config.data.allow_partial=true; 8 minutes) expect AUCs of .75 [.58, .87], .64 [.41, .82], .56 [.34, .76] and,
of the mean, .74 [.56, .86].  ``:toy``: 64 pixels, three blocks, random weights, half a minute.
"""

from ml_collections import ConfigDict

from configs.common import method


def get_config(argument: str = "") -> ConfigDict:
    """Returns three branches and their mean."""
    keys = ("model.label", "features.extractor", "features.select", "model.pool", "classifier.name")
    config = method(
        __file__,
        argument,
        (
            keys,
            (
                ("branch_cnn", ("backbone",), (), "average", "linear"),
                ("branch_cnn_lstm", ("backbone",), (), "flatten", "lstm"),
                ("branch_dct_lstm", ("dct",), ("standardize",), "flatten", "lstm"),
            ),
        ),
        model={"backbone": "vgg16", "stage": "block3" if argument == "toy" else "", "hidden": 128},
        train={"learning_rate": 1e-3, "epochs": 20},
    )
    config.study.combine = (("cnn_rnn_dct", "mean", "branch_*"),)
    return config
