"""Whether this jaxlib computes correct numbers here: jaxlib 0.10.2 does not (jax issue 39103)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxlib.version import __version__ as jaxlib_version

from alljax import cache, files, interrupts
from alljax.errors import ConfigError

ROWS = tuple(2**power + offset for power in (14, 15) for offset in (-1, 0, 1, 17))
"""Row counts at which fused loops of XLA's CPU back end change shape."""


def check_compiler() -> None:
    """Raises `ConfigError` if the reproducer of jax issue 39103, a vectorized matrix-vector product and sum, fails.

    It runs once per jaxlib version and platform: a file in the cache records success.
    """
    passed = files.cache_dir() / "self-checks" / f"jaxlib-{jaxlib_version}-{jax.default_backend()}"
    if cache.read_text(passed):
        return
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((3, 3), np.float32)
    compiled = jax.jit(jax.vmap(lambda matrix, vector: jnp.sum((matrix @ vector) ** 2), in_axes=(None, 0)))
    for rows in ROWS:
        interrupts.check(collective=True)
        vectors = generator.standard_normal((rows, 3), np.float32)
        with jax.default_matmul_precision("float32"):
            results = np.asarray(compiled(matrix, vectors))
        wrong = np.sum(~np.isclose(results, ((vectors @ matrix.T) ** 2).sum(1), rtol=1e-3, atol=1e-3))
        if wrong:
            raise ConfigError(
                f"jaxlib {jaxlib_version} computes wrong numbers on this {jax.default_backend()}: {wrong} of "
                f"{rows:,} rows differ from NumPy's; install another version, for example: pip install 'jax!=0.10.2'"
            )
    cache.write_text(passed, "passed")
