"""Rules that combine the predictions of several models for the same images."""

import numpy as np


def combine(rule: str, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the probabilities of M models together, float32 (…, n, C), from theirs, (M, …, n, C).

    The rule ``vote`` is `vote`; other rules sum the probabilities times `weights`, (M, …), whose sum is 1.
    """
    if rule == "vote":
        return vote(probabilities)
    return (weights[..., None, None] * np.asarray(probabilities, np.float64)).sum(0).astype(np.float32)


def vote(probabilities: np.ndarray) -> np.ndarray:
    """Returns the share of the M models that predict each class, float32 (…, n, C), from (M, …, n, C).

    Where several classes have the most votes, the one with the largest mean probability wins: its share is the next
    larger float32.
    """
    classes = np.eye(probabilities.shape[-1], dtype=np.float32)
    votes = classes[probabilities.argmax(-1)].sum(0)
    leading = votes == votes.max(-1, keepdims=True)
    winner = classes[np.where(leading, probabilities.mean(0, dtype=np.float64), -1).argmax(-1)] == 1
    shares = votes / np.float32(len(probabilities))
    tied = leading.sum(-1, keepdims=True) > 1
    return np.where(tied & winner, np.nextafter(shares, np.float32(1)), shares)


def accuracy_weights(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the weight of each of M models, (M,): w_m = a_m / (a_1 + … + a_M), where a_m is the accuracy.

    Labels int (n,) and probabilities (M, n, C) are of images that the models were not trained on.
    """
    accuracies = np.maximum((probabilities.argmax(-1) == labels).mean(-1), np.finfo(np.float64).eps)
    return np.asarray(accuracies / accuracies.sum())
