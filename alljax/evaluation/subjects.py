"""Predictions of subjects, and of the ensemble of all heads, from those of the images by each head."""

import numpy as np

from alljax.evaluation.intervals import HeldOut
from alljax.evaluation.metrics import folds_are_complete


def by_subject(test: HeldOut, shares: np.ndarray | None = None) -> HeldOut:
    """Returns one row per subject (and fold, if its images are in several), from which all metrics can be computed.

    The class is that of most of its images, the probabilities are geometric means over its images, scaled to sum 1,
    and the scores means of the log-odds of each class. If a fold has no subject of a class, as in
    leave-one-subject-out, the rows are of one fold.

    A head that was trained without a subject has seen fewer images of its class, which lowers the probability of this
    class: pooled over the folds of leave-one-subject-out the AUC of a head that has learned nothing is below 0.5.

    Args:
        test: the predictions.
        shares: (F, C), the class shares of the training images of each fold, whose log-odds are subtracted from the
            scores against most of this bias; None: none are.
    """
    from scipy.special import logit, softmax

    names, unit = np.unique(test.subjects, return_inverse=True)
    row = test.fold * len(names) + unit
    order = np.argsort(row, kind="stable")
    rows, starts, counts = np.unique(row[order], return_index=True, return_counts=True)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[:, order], starts, axis=1) / counts[:, None]

    classes, smallest = test.probabilities.shape[2], np.finfo(np.float32).eps
    probabilities = np.clip(np.asarray(test.probabilities, np.float64), smallest, 1 - smallest)
    labels, fold = mean(np.eye(classes)[test.labels][None])[0].argmax(1), rows // len(names)
    return HeldOut(
        labels=labels,
        probabilities=softmax(mean(np.log(probabilities)), axis=2),
        subjects=names[rows % len(names)],
        folds=fold if folds_are_complete(labels, fold) else None,
        scores=mean(logit(probabilities)) - (0 if shares is None else logit(shares)[fold]),
    )


def training_shares(test: HeldOut) -> np.ndarray | None:
    """Returns the class shares of the images of all other folds, (F, C); None where every fold has all classes.

    These are the training images of each fold of leave-one-subject-out without validation.
    """
    if folds_are_complete(test.labels, test.fold):
        return None
    images = np.zeros((test.fold.max() + 1, test.probabilities.shape[2]))
    np.add.at(images, (test.fold, test.labels), 1)
    others = images.sum(0) - images
    return others / others.sum(1, keepdims=True)


def ensemble(test: HeldOut, images: np.ndarray) -> HeldOut:
    """Returns the predictions of the ensemble of heads that were not trained on an image: one row per image.

    Its probabilities are means over seeds and repeats, as those that `alljax predict` writes. With several repeats the
    heads differ between any two images, so all images are of one fold.

    Args:
        test: the predictions, one row per image and repeat.
        images: (N,), names of the images.
    """
    names, first, image = np.unique(images, return_index=True, return_inverse=True)
    summed = np.zeros((len(names), test.probabilities.shape[2]))
    np.add.at(summed, image, np.asarray(test.probabilities, np.float64).mean(0))
    folds = test.folds[first] if test.folds is not None and len(names) == len(images) else None
    mean = summed / np.bincount(image)[:, None]
    return HeldOut(test.labels[first], mean[None], test.subjects[first], folds)
