"""Predictions that are joined: those of the images of a subject, of the heads of a trial, and of several models."""

import numpy as np

from alljax.evaluation.intervals import HeldOut
from alljax.evaluation.metrics import folds_are_complete


def by_subject(test: HeldOut) -> HeldOut:
    """Returns one row per subject: its probabilities are geometric means over its images, scaled to sum 1.

    The class is that of most of its images, scores are means of the log-odds. If a subject is in several folds, or a
    fold has no subject of a class, as in leave-one-subject-out, the rows are of one fold. Where folds lack classes the
    log-odds of the class shares in all other folds are subtracted, against the bias of heads trained on fewer images.
    """
    from scipy.special import logit, softmax

    names, unit, counts = np.unique(test.subjects, return_inverse=True, return_counts=True)
    order, starts = np.argsort(unit, kind="stable"), np.cumsum(counts) - counts

    def mean(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[:, order], starts, axis=1) / counts[:, None]

    classes, smallest = test.probabilities.shape[2], np.finfo(np.float32).eps
    probabilities = np.clip(np.asarray(test.probabilities, np.float64), smallest, 1 - smallest)
    of_class, fold, odds = np.eye(classes)[test.labels], test.fold[order][starts], logit(probabilities)
    labels = mean(of_class[None])[0].argmax(1)
    if not folds_are_complete(test.labels, test.fold):
        others = of_class.sum(0) - np.eye(test.fold.max() + 1)[:, test.fold] @ of_class
        odds -= logit(others / others.sum(1, keepdims=True))[test.fold]
    within = np.array_equal(fold[unit], test.fold) and folds_are_complete(labels, fold)
    shares = softmax(mean(np.log(probabilities)), axis=2)
    return HeldOut(labels, shares, names, fold if within else None, scores=mean(odds))


def ensemble(test: HeldOut, images: np.ndarray) -> HeldOut:
    """Returns the predictions of the ensemble of heads that were not trained on an image: one row per image.

    They are means over seeds and rows of `images`, (N,) names; several repeats have different heads, so one fold.
    """
    names, first, image = np.unique(images, return_index=True, return_inverse=True)
    summed = np.zeros((len(names), test.probabilities.shape[2]))
    np.add.at(summed, image, np.asarray(test.probabilities, np.float64).mean(0))
    folds = test.folds[first] if test.folds is not None and len(names) == len(images) else None
    mean = summed / np.bincount(image)[:, None]
    return HeldOut(test.labels[first], mean[None], test.subjects[first], folds)


def combine(rule: str, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the probabilities of M models together, float32 (…, n, C), from theirs, (M, …, n, C).

    The rule ``vote`` gives the share of the models that predict a class; of several classes with the most votes, that
    with the largest mean probability has the next larger float32. Others sum probabilities times `weights`, (M, …).
    """
    if rule != "vote":
        return (weights[..., None, None] * np.asarray(probabilities, np.float64)).sum(0).astype(np.float32)
    classes = np.eye(probabilities.shape[-1], dtype=np.float32)
    votes = classes[probabilities.argmax(-1)].sum(0)
    leading = votes == votes.max(-1, keepdims=True)
    winner = classes[np.where(leading, probabilities.mean(0, dtype=np.float64), -1).argmax(-1)] == 1
    shares = votes / np.float32(len(probabilities))
    tied = leading.sum(-1, keepdims=True) > 1
    return np.where(tied & winner, np.nextafter(shares, np.float32(1)), shares)


def accuracy_weights(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the weight of each of M models, (M,): its share of their summed accuracies on images (M, n, C)."""
    accuracies = np.maximum((probabilities.argmax(-1) == labels).mean(-1), np.finfo(np.float64).eps)
    return np.asarray(accuracies / accuracies.sum())
