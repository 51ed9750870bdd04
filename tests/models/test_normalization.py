import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alljax.models.normalization import Batch, BatchNormalization

ALONE = frozenset({""})  # a layer that is the root has the empty path
IMAGES = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 4, 5, 6))
OURS = BatchNormalization(momentum=0.9, epsilon=1e-3)
VARIABLES = {
    "params": {"scale": jnp.linspace(0.5, 2, 6), "bias": jnp.linspace(-1, 1, 6)},
    "batch_stats": {"mean": jnp.linspace(0, 1, 6), "var": jnp.linspace(1, 2, 6)},
}


@pytest.mark.parametrize("frozen", [True, False])
def test_equals_flax_on_a_full_batch(frozen: bool) -> None:
    flax_layer = nn.BatchNorm(frozen, momentum=0.9, epsilon=1e-3, use_fast_variance=False)
    expected, expected_statistics = flax_layer.apply(VARIABLES, IMAGES, mutable=["batch_stats"])
    batch = None if frozen else Batch(ALONE, jnp.ones(8, bool))
    got, statistics = OURS.apply(VARIABLES, IMAGES, batch, mutable=["batch_stats"])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), statistics, expected_statistics)


def test_padding_counts_for_nothing() -> None:
    mask = jnp.arange(8) < 5
    padded = jnp.where(mask.reshape(-1, 1, 1, 1), IMAGES, 1e3)
    got, statistics = OURS.apply(VARIABLES, padded, Batch(ALONE, mask), mutable=["batch_stats"])
    alone, expected = OURS.apply(VARIABLES, IMAGES[:5], Batch(ALONE, jnp.ones(5, bool)), mutable=["batch_stats"])
    np.testing.assert_allclose(got[:5], alone, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), statistics, expected)


def test_uneven_devices_give_the_statistics_of_the_global_batch() -> None:
    mask = jnp.arange(8) < 5  # devices hold 2, 2, 1 and 0 images that count

    def on_device(images: jax.Array, mask: jax.Array) -> tuple[jax.Array, dict]:
        return OURS.apply(VARIABLES, images, Batch(ALONE, mask, "data"), mutable=["batch_stats"])

    spread = jax.pmap(on_device, axis_name="data")(IMAGES.reshape(4, 2, 4, 5, 6), mask.reshape(4, 2))
    whole = OURS.apply(VARIABLES, IMAGES, Batch(ALONE, mask), mutable=["batch_stats"])
    np.testing.assert_allclose(spread[0].reshape(IMAGES.shape), whole[0], rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[3], b, rtol=1e-5), spread[1], whole[1])


def test_bfloat16_is_normalized_in_float32() -> None:
    got = OURS.apply(VARIABLES, IMAGES.astype(jnp.bfloat16), None)
    assert got.dtype == jnp.bfloat16
    expected = OURS.apply(VARIABLES, IMAGES.astype(jnp.bfloat16).astype(jnp.float32), None)
    np.testing.assert_array_equal(got, expected.astype(jnp.bfloat16))
