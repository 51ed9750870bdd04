"""Placement of arrays: compiled once, large arrays sharded, settings that do not fit."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

from alljax.config import default_config
from alljax.errors import ConfigError
from alljax.training.sharding import Mesh, PmapMesh, make_mesh

STEPS = 50


@pytest.mark.parametrize(
    ("make", "programs"),
    [(Mesh, 1), (lambda: Mesh(2), 2), (PmapMesh, 1)],
    ids=["jit: the step", "fsdp: the step and gather", "pmap: the step"],
)
def test_fifty_steps_compile_once(make: Callable[[], Mesh], programs: int, compilations: list[str]) -> None:
    mesh = make()

    def step(state: jax.Array, batch: jax.Array) -> jax.Array:
        mean = batch.mean()
        return state + (mean if mesh.axis is None else jax.lax.pmean(mean, mesh.axis))

    compiled, state = mesh.jit(step, batch=1, donate=0), mesh.replicate(np.zeros((128, 256), np.float32))
    for _ in range(STEPS):
        state = compiled(state, mesh.shard(np.ones((16, 4), np.float32)))
        values = mesh.gather(state)
    np.testing.assert_array_equal(values, np.full((128, 256), STEPS, np.float32))
    assert len(compilations) == programs


def test_parallel_settings_that_do_not_fit() -> None:
    config = default_config()
    config.parallel, config.mesh.fsdp = "pmap", 2
    with pytest.raises(ConfigError, match=r"mesh\.fsdp"):
        make_mesh(config)
    config.parallel, config.mesh.fsdp = "jit", 3
    with pytest.raises(ConfigError, match=f"does not divide the {jax.device_count()} devices"):
        make_mesh(config)
