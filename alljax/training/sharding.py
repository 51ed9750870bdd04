"""How a batch and a network are spread over devices and processes: jit over a mesh, or pmap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from alljax.errors import ConfigError

DATA, SHARED = "data", "fsdp"

LARGE = 2**14
"""Arrays of fewer elements are held whole by every device: sharing them saves nothing."""


def make_devices(config: ConfigDict) -> "Jit | Pmap":
    """Returns the way ``parallel`` and ``mesh.fsdp`` ask for, over all devices of all processes.

    Raises:
        ConfigError: numbers of devices that do not fit.
    """
    count, shared = jax.device_count(), config.mesh.fsdp
    if count % shared:
        raise ConfigError(f"mesh.fsdp={shared} does not divide the {count} devices")
    if config.parallel == "pmap":
        if shared > 1:
            raise ConfigError("mesh.fsdp works with parallel=jit; pmap holds the whole network on every device")
        return Pmap()
    return Jit(shared)


class Jit:
    """`jax.jit` over a mesh: arrays are global, XLA puts the sums over devices where they belong.

    Attributes:
        count: devices over which a batch is spread, of all processes; its size must be a multiple.
        axis: the mapped axis' name inside functions; none here.
    """

    axis: str | None = None

    def __init__(self, shared: int = 1) -> None:
        """Makes a mesh of all devices, `shared` of which hold one copy of what is large."""
        self.count = jax.device_count()
        axes = (AxisType.Auto, AxisType.Auto)
        self.mesh = jax.make_mesh((self.count // shared, shared), (DATA, SHARED), axis_types=axes)
        self._shared = shared
        self._batch = NamedSharding(self.mesh, PartitionSpec((DATA, SHARED)))

    def sharding(self, leaf: Any) -> NamedSharding:
        """Returns how one array of the state is held: cut along its longest even side, or whole."""
        sides: list[str | None] = [None] * np.ndim(leaf)
        even = [side for side, length in enumerate(np.shape(leaf)) if length % self._shared == 0]
        if self._shared > 1 and np.size(leaf) >= LARGE and even:
            sides[max(even, key=lambda side: np.shape(leaf)[side])] = SHARED
        return NamedSharding(self.mesh, PartitionSpec(*sides))

    def place(self, tree: Any) -> Any:
        """Puts a tree that all processes hold alike (state, parameters) on the devices."""

        def put(leaf: Any) -> jax.Array:
            whole = np.asarray(leaf)
            return jax.make_array_from_callback(whole.shape, self.sharding(whole), lambda index: whole[index])

        with jax.transfer_guard("allow"):
            return jax.tree.map(put, tree)

    def spread(self, tree: Any) -> Any:
        """Puts this process's part of a batch on its devices, along the first axis."""
        with jax.transfer_guard("allow"):
            if jax.process_count() == 1:  # images that are kept on the device stay there
                return jax.device_put(tree, self._batch)
            return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self._batch, leaf), tree)

    def compile(self, function: Callable[..., Any], donate: int | None = None) -> Callable[..., Any]:
        """Compiles a function of placed trees and one spread batch; its results are placed trees.

        Args:
            function: pure.
            donate: the argument whose memory the result may take.
        """

        def constrained(*arguments: Any) -> Any:
            results = function(*arguments)
            return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, self.sharding(leaf)), results)

        return jax.jit(constrained, donate_argnums=() if donate is None else donate)

    def fetch(self, tree: Any) -> Any:
        """Returns placed values as NumPy arrays, the same in every process."""
        whole = NamedSharding(self.mesh, PartitionSpec())
        gathered = tree if self._shared == 1 else jax.jit(lambda leaves: leaves, out_shardings=whole)(tree)
        return jax.tree.map(np.asarray, jax.device_get(gathered))


class Pmap:
    """`jax.pmap`: each device runs the function on its part; the function itself sums over the axis.

    The attributes and methods are those of `Jit`.
    """

    axis: str | None = DATA

    def __init__(self) -> None:
        """Uses all devices."""
        self.count = jax.device_count()

    def place(self, tree: Any) -> Any:
        """See `Jit`."""
        local = jax.local_device_count()
        return _mapped(jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), (local, *np.shape(leaf))), tree))

    def spread(self, tree: Any) -> Any:
        """See `Jit`."""
        local = jax.local_device_count()
        return _mapped(jax.tree.map(lambda leaf: np.asarray(leaf).reshape(local, -1, *np.shape(leaf)[1:]), tree))

    def compile(self, function: Callable[..., Any], donate: int | None = None) -> Callable[..., Any]:
        """See `Jit`."""
        return jax.pmap(function, axis_name=DATA, donate_argnums=() if donate is None else donate)

    def fetch(self, tree: Any) -> Any:
        """See `Jit`."""
        return jax.tree.map(lambda leaf: jax.device_get(leaf.addressable_shards[0].data)[0], tree)


def _mapped(tree: Any) -> Any:
    """Puts the entries of each array's first axis on the devices of this process."""
    if not jax.tree.leaves(tree):
        return tree
    with jax.transfer_guard("allow"):
        return jax.pmap(lambda leaves: leaves, axis_name=DATA)(tree)


def bytes_per_device(tree: Any) -> int:
    """Returns the bytes that the first device of this process holds of a placed tree."""
    shards = [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(tree)]
    return sum(shard.size * shard.dtype.itemsize for shard in map(jnp.asarray, shards))
