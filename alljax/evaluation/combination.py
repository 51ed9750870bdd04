"""Rules that combine the predictions of several models for the same images."""

import numpy as np


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
