"""Parameters, optimizer and compiled functions of one fine-tuning run, on its devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from alljax.models.head import Head
from alljax.training import fine_tuning, parameter_groups, sharding
from alljax.training import step as steps
from alljax.training.network import Network
from alljax.training.optimizers import Hyperparameters
from alljax.training.step import Batch, Metrics, TrainState


class Learner:
    """What `loop.train_network` drives.

    Attributes:
        devices: how everything is spread.
        groups: layer groups, from ``train.groups``.
        abstract: shapes, types and placements of a state and the sums of its epoch, for checkpoints.
    """

    def __init__(
        self,
        config: ConfigDict,
        network: Network,
        classes: int,
        key: jax.Array,
        class_weights: np.ndarray,
        total_steps: int,
        devices: sharding.Mesh,
    ) -> None:
        """Puts what does not change on the devices.

        Args:
            config: ``model``, ``train`` and ``preprocessing`` are read.
            network: the backbone with its parameters.
            classes: number of logits.
            key: of the run.
            class_weights: float32 (C,).
            total_steps: optimizer steps of the whole run.
            devices: from `mesh.make_devices`.

        Raises:
            ConfigError: ``train.groups`` does not cover the parameters.
        """
        self.devices, self.groups = devices, parameter_groups.read(config.train.groups)
        self._config, self._network = config, network
        self._head = Head(config.model.hidden, classes, config.model.dropout)
        parameters = fine_tuning.first_parameters(network, self._head, key)
        self._group_of = parameter_groups.assign(parameters, self.groups)
        ever = parameter_groups.learning(self._group_of, self.groups, config.train.epochs - 1)
        self._first = {path: np.asarray(leaf) for path, leaf in parameters.items() if path in ever}
        by_pattern = {group.pattern: group for group in self.groups}
        self._layer_group_of = {path: by_pattern[pattern] for path, pattern in self._group_of.items()}
        self._hyperparameters = devices.replicate(Hyperparameters.of(config, total_steps))
        fixed = {path: leaf for path, leaf in parameters.items() if path not in ever}
        constants = (fixed, jax.random.key_data(key), class_weights.astype(np.float32))
        self._fixed, self._key, self._class_weights = devices.replicate(constants)
        forward = fine_tuning.make_forward(config, network, self._head)
        self._evaluate = devices.jit(steps.make_eval_step(forward, devices.axis))
        self._sum = devices.jit(lambda sums, more: sums + more)
        self.abstract = devices.abstract(jax.eval_shape(lambda: (self._begin(self._first), Metrics.zero())))
        self._finite = devices.jit(lambda tree: jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))

    def start(self) -> TrainState:
        """Returns the state before the first step, on the devices."""
        return self.devices.replicate(jax.jit(self._begin)(self._first))

    def zero(self) -> Metrics:
        """Returns sums over no cell, on the devices."""
        return self.devices.replicate(Metrics(*np.zeros((3, 1), np.float32)[:, 0]))

    def compile(self, epoch: int) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
        """Returns the training step of an epoch, in which some groups learn; it takes the old state's memory."""
        learning = parameter_groups.learning(self._group_of, self.groups, epoch)
        layers, axis = parameter_groups.normalization_layers(learning), self.devices.axis
        forward = fine_tuning.make_forward(self._config, self._network, self._head, layers, axis)
        step = steps.make_train_step(
            self._config,
            forward,
            augment=fine_tuning.make_augmentation(self._config),
            trainable=learning,
            group_of=self._layer_group_of,
            axis=axis,
        )

        def learn(
            state: TrainState, fixed: Any, key: jax.Array, cells: Batch, weights: jax.Array, numbers: Hyperparameters
        ) -> tuple[TrainState, Metrics]:
            state = state.replace(metrics=Metrics.zero())  # type: ignore[attr-defined]
            state = step(state, fixed, cells, weights, jax.random.wrap_key_data(key), numbers)
            return state, state.metrics

        compiled = self.devices.jit(learn, donate=0)
        return lambda state, cells: compiled(
            state, self._fixed, self._key, cells, self._class_weights, self._hyperparameters
        )

    def add(self, sums: Metrics, more: Metrics) -> Metrics:
        """Returns the sums of both, on the devices."""
        return self._sum(sums, more)

    def logits(self, state: TrainState, cells: Batch) -> np.ndarray:
        """Returns float32 (B, C) of a spread batch, the whole of it in every process."""
        return self.devices.gather(self._evaluate(state, self._fixed, cells))

    def finite(self, tree: Any) -> bool:
        """Returns whether all values of a state are finite."""
        return bool(self.devices.gather(self._finite(tree)).all())

    def result(self, state: TrainState) -> tuple[dict[str, np.ndarray], Any]:
        """Returns what learned (averaged where asked for) and the statistics, as NumPy."""
        return self.devices.gather(dict(state.eval_params)), self.devices.gather(state.batch_stats)

    def describe(self, state: TrainState) -> str:
        """Returns a line on what learns and what a device holds of it."""
        count = sum(leaf.size for leaf in self._first.values())
        held = sharding.bytes_per_device(state) + sharding.bytes_per_device(self._fixed)
        return (
            f"{count:,} parameters learn; parameters, statistics and optimizer take {held / 2**20:,.0f} MiB on each "
            f"of {self.devices.device_count} devices, before activations"
        )

    def loaded(self, params: Any, batch_stats: Any) -> TrainState:
        """Returns a state that can be evaluated, of parameters that were learned before.

        Args:
            params: nested, as a finished run stores them.
            batch_stats: of the backbone.
        """
        step: Any = np.zeros((), np.int32)
        return self.devices.replicate(TrainState(flatten_dict(params, sep="/"), (), step, batch_stats))

    def _begin(self, params: dict[str, Any]) -> TrainState:
        return steps.init_state(self._config, params, self._network.used("batch_stats"), self._layer_group_of)


def memory() -> str:
    """Returns the peak memory of this process's fullest device as text; empty where the device does not tell."""
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    peak = max(each.get("peak_bytes_in_use", 0) for each in statistics)
    return f"{peak / 2**30:.1f} GiB" if peak else ""
