"""The stages with attention; tests/contract checks shapes, gradients and the number of parameters."""

from typing import Any

import jax
import numpy as np

from alljax.models.layers import PYTORCH
from alljax.models.residual_attention import AttentionStage
from alljax.models.resnet import Block


def test_a_mask_of_one_half_multiplies_the_trunk_by_three_halves() -> None:
    """H = (1 + M) · T: without the last convolution of the mask, M is sigmoid(0)."""
    images = jax.random.normal(jax.random.key(0), (2, 9, 6, 32))
    module, unit = AttentionStage(8, 2, 1), Block(PYTORCH, 8, 1)
    variables: Any = jax.jit(module.init, static_argnums=2)(jax.random.key(1), images, None)
    params = variables["params"]
    params["conv2"]["kernel"] = np.zeros_like(params["conv2"]["kernel"])

    def apply(name: str, inputs: Any) -> Any:
        of_unit = {kind: tree[name] for kind, tree in variables.items()}
        return unit.apply(of_unit, inputs, None)

    trunk = apply("trunk2", apply("trunk1", apply("first2", apply("first1", images))))
    found = jax.jit(module.apply, static_argnums=2)(variables, images, None)
    np.testing.assert_allclose(found, apply("last", 1.5 * trunk), rtol=1e-4, atol=1e-5)
