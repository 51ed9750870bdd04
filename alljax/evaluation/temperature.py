"""Temperature scaling of probabilities (C. Guo et al., On Calibration of Modern Neural Networks, 2017)."""

import numpy as np

from alljax.evaluation.metrics import losses


def scale(probabilities: np.ndarray, temperature: np.ndarray | float) -> np.ndarray:
    """Returns softmax(log p / T) of probabilities (..., C); T is a number, or an array that broadcasts to them."""
    from scipy.special import softmax

    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), np.finfo(np.float32).tiny))
    return np.asarray(softmax(logits / temperature, axis=-1))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the temperature from 0.02 to 400 with the lowest log loss; labels int (N,), probabilities (N, C)."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return float(losses(labels, scale(probabilities, np.exp(logarithm)))[0].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 6), method="bounded").x))
