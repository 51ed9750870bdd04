"""Writes keras_optimizers.npz: 1,000 steps of Keras's own optimizers on given gradients.

    python3.11 -m venv parity && parity/bin/pip install torch==2.13.0 keras==3.15.0
    KERAS_BACKEND=torch parity/bin/python tests/training/make_goldens.py

(The torch wheel may be the CPU build; Keras runs on it, so that no TensorFlow is needed.)
The gradients span eight decades, so that the place of epsilon shows.
"""

from functools import partial
from pathlib import Path

import keras
import numpy as np

STEPS, PARAMETERS = 1000, 16
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": partial(keras.optimizers.SGD, momentum=0.9),
    "sgd_decay": partial(keras.optimizers.SGD, momentum=0.9, weight_decay=0.1),
}


def gradients() -> np.ndarray:
    """Returns (STEPS, PARAMETERS) float32, columns scaled from 1e-8 to 1."""
    generator = np.random.default_rng(20230603)
    scales = np.logspace(-8, 0, PARAMETERS)
    return (scales * (generator.standard_normal((STEPS, PARAMETERS)) + 0.3)).astype(np.float32)


def trajectory(name: str, staircase: bool) -> np.ndarray:
    """Returns every tenth state of the parameters, (STEPS / 10, PARAMETERS)."""
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, 90, 0.95, staircase=staircase)
    optimizer = OPTIMIZERS[name](schedule)
    parameters = keras.Variable(np.linspace(-1, 1, PARAMETERS).astype(np.float32))
    optimizer.build([parameters])
    states = []
    for gradient in gradients():
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [parameters])
        states.append(keras.ops.convert_to_numpy(parameters).copy())
    return np.stack(states)[9::10]


if __name__ == "__main__":
    goldens = {
        f"{name}_{'staircase' if staircase else 'continuous'}": trajectory(name, staircase)
        for name in OPTIMIZERS
        for staircase in (False, True)
    }
    np.savez_compressed(Path(__file__).with_name("keras_optimizers.npz"), gradients=gradients(), **goldens)
