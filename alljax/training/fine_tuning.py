"""Fine-tuning: a network on images, compiled once per trial for all its folds and seeds."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax.data.augmentation import make_augment
from alljax.models.head import POOLINGS, make_head
from alljax.models.layers import BatchNormContext
from alljax.training import optimizers
from alljax.training import step as steps
from alljax.training.network import Network
from alljax.training.optimizers import ParameterGroup, hyperparameters_of
from alljax.training.sharding import Mesh, bytes_per_device
from alljax.training.step import Apply, Batch, Metrics, Parameters, RunInputs, TrainState


class FineTuner:
    """The compiled functions of one trial, reused for all folds and seeds."""

    def __init__(self, config: ConfigDict, network: Network, num_classes: int, mesh: Mesh) -> None:
        self.config, self.mesh, self._network = config, mesh, network
        self._head = make_head(config, num_classes, network.sequence)
        self._group_of = group_parameters(config, network, num_classes)
        ever = optimizers.trainable(self._group_of, config.train.epochs - 1)
        backbone = flatten_dict({"backbone": network.used("params")}, sep="/")
        initial = {path: np.asarray(leaf) for path, leaf in backbone.items() if path in ever}
        self._initial = initial, network.used("batch_stats")
        self._frozen = mesh.replicate({path: leaf for path, leaf in backbone.items() if path not in ever})
        self._steps: dict[frozenset[str], Callable[..., TrainState]] = {}
        self._init = mesh.jit(self._make_state)
        self._evaluate = mesh.jit(steps.make_eval_step(self._make_apply(frozenset()), mesh.axis), batch=2)
        self._finite = mesh.jit(_all_finite)
        state = jax.eval_shape(self._make_state, *self._initial, jax.random.key_data(jax.random.key(0)))
        self.abstract = mesh.abstract(state)  # shapes, types and placements, for checkpoints

    def init(self, run: RunInputs) -> TrainState:
        """Returns the state before the first step of a run, on the devices."""
        return self._init(*self.mesh.replicate(self._initial), run.key)

    def inputs(self, key: jax.Array, class_weights: Any, total_steps: int) -> RunInputs:
        """Returns what a run of `total_steps` steps passes to each of them, on the devices."""
        numbers = hyperparameters_of(self.config, total_steps)
        return self.mesh.replicate(RunInputs(jax.random.key_data(key), class_weights, numbers))

    def step(self, state: TrainState, batch: Batch, run: RunInputs, epoch: int) -> TrainState:
        """Makes one optimizer step; reuses the memory of `state`.  The epoch, from 0, decides what is trainable."""
        trainable = optimizers.trainable(self._group_of, epoch)
        if trainable not in self._steps:
            apply, settings = self._make_apply(normalization_layers(trainable)), self.config.augment
            augment = make_augment(settings) if any(settings.values()) else None
            train_step = steps.make_train_step(
                self.config, apply, augment=augment, trainable=trainable, group_of=self._group_of, axis=self.mesh.axis
            )
            self._steps[trainable] = self.mesh.jit(train_step, batch=2, donate=0)
        return self._steps[trainable](state, self._frozen, batch, run)

    def reset_metrics(self, state: TrainState) -> TrainState:
        """Returns the state with the metrics of no image."""
        return state.replace(metrics=self.mesh.replicate(Metrics.zero()))  # type: ignore[attr-defined]

    def logits(self, state: TrainState, batch: Batch) -> np.ndarray:
        """Returns float32 (B, C) of the global batch, in every process."""
        return self.mesh.gather(self._evaluate(state, self._frozen, batch))

    def is_finite(self, state: TrainState) -> bool:
        """Returns whether no value of the state is NaN or infinite."""
        return bool(self.mesh.gather(self._finite(state)))

    def result(self, state: TrainState) -> dict[str, Any]:
        """Returns ``params`` (their moving average with ``train.ema_decay``) and ``batch_stats``."""
        return self.mesh.gather({"params": dict(state.eval_params), "batch_stats": state.batch_stats})

    def describe(self, state: TrainState) -> str:
        """Returns the number of trainable parameters and the memory per device, without activations, as text."""
        count = sum(leaf.size for leaf in jax.tree.leaves(self.abstract.params))
        size, devices = bytes_per_device((state, self._frozen)), self.mesh.device_count
        return f"{count:,} trainable parameters; the state takes {size / 2**20:,.0f} MiB on each of {devices} devices"

    def _make_state(self, backbone: Parameters, batch_stats: Any, key: jax.Array) -> TrainState:
        head = {"head": steps.init_head(self._head, self._network.feature_count, key)}
        params = {**backbone, **flatten_dict(head, sep="/")}
        return steps.init_state(self.config, params, batch_stats, self._group_of)

    def _make_apply(self, layers: frozenset[str]) -> Apply:
        """Returns the network as a function of its parameters, of which `layers` normalize by the batch."""
        train, network = self.config.train, self._network

        def apply(
            params: Parameters, batch_stats: Any, images: jax.Array, mask: jax.Array, keys: jax.Array | None
        ) -> tuple[jax.Array, Any]:
            tree = unflatten_dict(dict(params), sep="/")
            variables, inputs = {"params": tree["backbone"], "batch_stats": batch_stats}, network.preprocessing(images)
            context = BatchNormContext(layers, mask, self.mesh.axis, train.bn_momentum)
            stages, updated = network.backbone.module.apply(
                variables, inputs.astype(train.compute), last=network.stage, context=context, mutable=["batch_stats"]
            )
            features = POOLINGS[network.pool](stages[network.stage]).astype(jnp.float32)
            logits: Any = self._head.apply({"params": tree["head"]}, features, keys)
            return logits, updated.get("batch_stats", {})

        if train.remat:
            # Keep the output of each stage; activations inside are recomputed in the backward pass.
            return jax.checkpoint(apply, policy=jax.checkpoint_policies.save_only_these_names("stage"))
        return apply


def group_parameters(config: ConfigDict, network: Network, num_classes: int) -> dict[str, ParameterGroup]:
    """Returns the layer group of each parameter; see `optimizers.assign` for errors."""
    head = make_head(config, num_classes, network.sequence)
    shapes = jax.eval_shape(lambda key: steps.init_head(head, network.feature_count, key), jax.random.key(0))
    params = flatten_dict({"backbone": network.used("params"), "head": shapes}, sep="/")
    return optimizers.assign(params, config.train.groups)


def normalization_layers(trainable: Iterable[str]) -> frozenset[str]:
    """Returns `BatchNormContext.layers` where these parameters are trained: the layers whose scale is one of them."""
    matches = (re.fullmatch("backbone/(.*)/scale", path) for path in trainable)
    return frozenset(match[1] for match in matches if match)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
