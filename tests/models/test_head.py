import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alljax.models.head import POOLINGS, Head


def test_pooling() -> None:
    activation = jnp.arange(2 * 2 * 3 * 4.0).reshape(2, 2, 3, 4)
    array = np.asarray(activation)
    np.testing.assert_allclose(POOLINGS["average"](activation), array.mean((1, 2)))
    np.testing.assert_array_equal(POOLINGS["max"](activation), array.max((1, 2)))
    np.testing.assert_array_equal(POOLINGS["flatten"](activation), array.reshape(2, 24))


def test_initialization_as_in_keras() -> None:
    head = Head()
    params = head.init(jax.random.key(0), jnp.zeros((1, 2048)))["params"]
    assert {name: layer["kernel"].shape for name, layer in params.items()} == {
        "dense": (2048, 512),
        "predictions": (512, 2),
    }
    for layer in params.values():
        limit = np.sqrt(6 / sum(layer["kernel"].shape))  # Glorot & Bengio 2010, equation 16
        largest = np.abs(layer["kernel"]).max()
        assert 0.95 * limit < largest <= limit
        assert np.std(layer["kernel"]) == pytest.approx(limit / np.sqrt(3), rel=0.05), "uniform"
        assert not layer["bias"].any()
