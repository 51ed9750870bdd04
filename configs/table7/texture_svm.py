r"""Our reading of [7]: texture of the nucleus, principal components, and a support vector machine.

    alljax study --config=table7/texture_svm --workdir=runs/texture_svm \
        --config.data.source=C-NMC_Leukemia.zip

The nucleus is the darkest cluster of k-means in L*a*b*; co-occurrence matrices (GLCM, seven measures, four angles) and
run-length matrices (GLRLM, eleven measures) of its gray levels; components with 95 % of the variance; an SVM with a
Gaussian kernel.  The report has what texture adds to the size of the cell.  On 512 images of C-NMC (with
--config.data.allow_partial=true) expect an AUC of .68 [.48, .83], .02 above that of the size.  ``:toy``: seconds.
"""

from ml_collections import ConfigDict

from configs.common import method


def get_config(argument: str = "") -> ConfigDict:
    """Returns the study of one trial."""
    return method(
        __file__,
        argument,
        model={"label": "texture_svm"},
        features={"extractor": ("texture",), "select": ("standardize", "pca"), "variance": 0.95},
        texture={"region": "nucleus", "clusters": 2, "levels": 16, "shape": False},
        classifier={"name": "svm", "kernel": "rbf", "C": 1.0, "gamma": 0.0},
    )
