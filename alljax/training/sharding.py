"""Placement of states and batches on devices and processes: `jax.jit` over a mesh, or `jax.pmap`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from alljax.errors import ConfigError

Function = Callable[..., Any]
DATA, FSDP = "data", "fsdp"
MIN_SHARDED_SIZE = 2**14  # smaller arrays are replicated: sharding saves no memory worth the communication


def make_mesh(config: ConfigDict) -> "Mesh":
    """Returns the mesh that ``parallel`` and ``mesh.fsdp`` describe, over all devices of all processes."""
    count, fsdp = jax.device_count(), config.mesh.fsdp
    if count % fsdp:
        raise ConfigError(f"mesh.fsdp={fsdp} does not divide the {count} devices")
    if config.parallel == "pmap":
        if fsdp > 1:
            raise ConfigError("mesh.fsdp requires parallel=jit; pmap replicates the complete state on every device")
        return PmapMesh()
    return Mesh(fsdp)


class Mesh:
    """`jax.jit` over a mesh of all devices: arrays are global, and XLA inserts the communication."""

    axis: str | tuple[()] = ()  # name of the mapped axis inside functions, of which there is none

    def __init__(self, fsdp: int = 1) -> None:
        """Shards each large array of the state among `fsdp` devices; 1 replicates all arrays."""
        self.device_count = jax.device_count()  # of all processes; batches are padded to a multiple of it
        shape, axes = (self.device_count // fsdp, fsdp), (AxisType.Auto, AxisType.Auto)
        self._fsdp, self._mesh = fsdp, jax.make_mesh(shape, (DATA, FSDP), axis_types=axes)
        self._batch = NamedSharding(self._mesh, PartitionSpec((DATA, FSDP)))
        # Made once: a new function object would be compiled again at each call.
        self._gather = jax.jit(lambda tree: tree, out_shardings=NamedSharding(self._mesh, PartitionSpec()))

    def sharding(self, leaf: Any) -> NamedSharding:
        """Returns the placement of one array of the state: sharded along its longest divisible axis, or replicated."""
        axes: list[str | None] = [None] * np.ndim(leaf)
        divisible = [axis for axis, length in enumerate(np.shape(leaf)) if length % self._fsdp == 0]
        if self._fsdp > 1 and np.size(leaf) >= MIN_SHARDED_SIZE and divisible:
            axes[max(divisible, key=lambda axis: np.shape(leaf)[axis])] = FSDP
        return NamedSharding(self._mesh, PartitionSpec(*axes))

    def replicate(self, tree: Any) -> Any:
        """Puts a tree that is equal in all processes on the devices; large arrays are sharded where ``fsdp`` > 1."""

        def put(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            return jax.make_array_from_callback(array.shape, self.sharding(array), lambda index: array[index])

        with jax.transfer_guard("allow"):
            return jax.tree.map(put, tree)

    def shard(self, batch: Any) -> Any:
        """Puts this process's part of a batch on its devices, along the first axis."""
        with jax.transfer_guard("allow"):
            return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self._batch, leaf), batch)

    def gather(self, tree: Any) -> Any:
        """Returns values as NumPy arrays, equal in every process."""
        return jax.device_get(tree if self._fsdp == 1 else self._gather(tree))

    def jit(self, function: Function, batch: int | None = None, donate: int | tuple[()] = ()) -> Function:
        """Compiles a pure function of replicated trees and argument number `batch`, which is sharded (None: none)."""

        @functools.wraps(function)  # its name appears in profiles
        def constrained(*arguments: Any) -> Any:
            results = function(*arguments)
            return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, self.sharding(leaf)), results)

        return jax.jit(constrained, donate_argnums=donate)

    def stored(self, tree: Any) -> Any:
        """Returns a tree to save; Orbax saves only arrays on the devices of all processes, unlike `jax.pmap`'s."""
        return self.gather(tree) if self.axis else tree

    def abstract(self, tree: Any) -> Any:
        """Returns shapes, types and placements with which a saved tree is loaded."""
        return jax.tree.map(lambda leaf: leaf.update(sharding=self.sharding(leaf)), tree)


class PmapMesh(Mesh):
    """`jax.pmap`: each device runs the function on its part of the batch; the function sums over `axis` itself."""

    axis = DATA

    def __init__(self) -> None:
        """Makes the mesh that `jax.pmap` makes: with another it would compile again for its own results."""
        super().__init__()
        self._mesh = jax.sharding.Mesh(jax.local_devices(), (DATA,))
        self._batch = NamedSharding(self._mesh, PartitionSpec(DATA))

    def shard(self, batch: Any) -> Any:
        """Adds a leading axis of the devices of this process."""
        local = jax.local_device_count()
        parts = jax.tree.map(lambda leaf: leaf.reshape(local, -1, *leaf.shape[1:]), batch)
        return jax.device_put(parts, self._batch)

    def jit(self, function: Function, batch: int | None = None, donate: int | tuple[()] = ()) -> Function:
        """See `Mesh`."""
        if batch is None:
            return super().jit(function, donate=donate)
        count = len(inspect.signature(function).parameters)
        in_axes = tuple(0 if number == batch else None for number in range(count))
        return jax.pmap(function, axis_name=DATA, in_axes=in_axes, out_axes=None, donate_argnums=donate)


def bytes_per_device(tree: Any) -> int:
    """Returns the bytes of a placed tree on the first device of this process."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))
