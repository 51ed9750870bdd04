"""Properties of image files that predict the class without the cell: a model can learn them instead.

In a public set every leukemic image had 224 × 224 pixels and no normal one had: whoever reads the size knows the class.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from alljax.data.protocols import group_folds

PROPERTIES = {
    "width": "the width",
    "height": "the height",
    "format": "the file format",
    "mode": "the color mode",
    "border": "the brightness of the outermost pixels",
    "bytes": "the file size",
}

LIMIT = 0.5
"""Properties that are at least so far from chance (0) to certainty (1) are reported: .75 for two classes."""


def measure(
    labels: np.ndarray, subjects: Sequence[str], properties: Mapping[str, np.ndarray], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns how well each property alone predicts the class of images of other subjects.

    A decision tree of at most 8 leaves (or twice the number of classes) learns the class from the property in 5 folds
    of whole subjects.

    Args:
        labels: int (N,), indices of `classes`; nothing is measured if a class has fewer than two subjects.
        subjects: N names.
        properties: (N,) numbers or texts by name, see `PROPERTIES`.
        classes: C names.

    Returns:
        By property: ``balanced_accuracy`` (1 / C by chance), and ``values``, from class to its typical values, a text.
    """
    groups = np.unique(subjects, return_inverse=True)[1]
    folds = min((len(np.unique(groups[labels == label])) for label in range(len(classes))), default=0)
    if folds < 2:
        return {}
    varied = any(len(np.unique(values)) > 1 for values in properties.values())
    fold_of_image = group_folds(labels, groups, min(folds, 5), 0) if varied else groups
    return {
        name: {
            "balanced_accuracy": _balanced_accuracy(labels, values, fold_of_image),
            "values": {of: _typical(values[labels == label]) for label, of in enumerate(classes)},
        }
        for name, values in properties.items()
    }


def warnings(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields a message about the properties that predict the class; `measured` is from `measure`."""
    found = []
    for name, of_property in measured.items():
        accuracy, by_class = of_property["balanced_accuracy"], of_property["values"]
        chance = 1 / max(len(by_class), 1)
        if name in PROPERTIES and accuracy - chance >= LIMIT * (1 - chance):
            values = "; ".join(f"{of} {typical}" for of, typical in by_class.items())
            found.append(f"{PROPERTIES[name]} with a balanced accuracy of {accuracy:.2f} ({values})")
    if found:
        yield (
            f"The class of an image can be predicted without the cell from {', from '.join(found)}: a model can learn "
            "this instead of the cells; use images that were made and stored in the same way for every class"
        )


def _balanced_accuracy(labels: np.ndarray, values: np.ndarray, fold_of_image: np.ndarray) -> float:
    known, codes = np.unique(values, return_inverse=True)
    num_classes = int(labels.max()) + 1
    if len(known) == 1:
        return 1 / num_classes
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    inputs = (codes if values.dtype.kind == "U" else values)[:, None]
    tree = DecisionTreeClassifier(max_leaf_nodes=max(8, 2 * num_classes), class_weight="balanced", random_state=0)
    predicted = cross_val_predict(tree, inputs, labels, cv=PredefinedSplit(fold_of_image))
    return float(balanced_accuracy_score(labels, predicted))


def _typical(values: np.ndarray) -> str:
    """Returns the texts that occur, or the range of 90 % of the numbers."""
    if values.dtype.kind == "U":
        return " or ".join(np.unique(values))
    return " to ".join(f"{bound:,.0f}" for bound in np.unique(np.quantile(values, (0.05, 0.95))))
