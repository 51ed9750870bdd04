r"""Our reading of [10]: VGG16's last feature map, a statistical filter, a salp swarm, and a support vector machine.

    alljax study --config=table7/vgg_salp_swarm_svm --workdir=runs/salp_swarm \
        --config.data.source=C-NMC_Leukemia.zip

Of 25,088 features the filter keeps 2,500 by ANOVA, without those that correlate with a better one; the salp swarm
about half of them.  The statistical part of SESSA is not known in detail: this is not it.  The controls answer what
the swarm is worth: all features, with the SVM and with L2-regularized logistic regression, 1,000 at random, 1,000 by
ANOVA, and the selection made on all images, the tested ones too (leaky).  6 trials; --dry_run estimates their time.
On 512 images of C-NMC (with --config.data.allow_partial=true; 6 CPU-minutes) expect an AUC of .67 [.42, .85], not more
than with 1,000 features at random, .69 [.43, .87], and .86 [.56, .97] where the selection saw the tested images.
``:toy``: 64 pixels, two blocks, random weights, a minute.
"""

from ml_collections import ConfigDict

from configs.common import method

SWARM = ("standardize", "anova", "correlation", "salp_swarm")


def get_config(argument: str = "") -> ConfigDict:
    """Returns the method and its five controls."""
    return method(
        __file__,
        argument,
        (
            ("model.label", "features.select", "features.keep", "features.select_scope", "classifier.name"),
            (
                ("vgg_salp_swarm_svm", SWARM, 2500, "train", "svm"),
                ("vgg_salp_swarm_svm_leaky", SWARM, 2500, "all", "svm"),
                ("vgg_all_features_svm", ("standardize",), 1000, "train", "svm"),
                ("vgg_all_features_l2", ("standardize",), 1000, "train", "logistic"),
                ("vgg_random_features_svm", ("standardize", "random"), 1000, "train", "svm"),
                ("vgg_anova_svm", ("standardize", "anova"), 1000, "train", "svm"),
            ),
        ),
        model={"backbone": "vgg16", "stage": "block2" if argument == "toy" else "block5", "pool": "flatten"},
        features={"max_correlation": 0.95, "salps": 10, "iterations": 2 if argument == "toy" else 50},
        classifier={"kernel": "rbf", "C": 1.0, "gamma": 0.0, "max_iter": 1000},
    )
