"""The compiled step of fine-tuning: what eight devices communicate, what memory is reused, when batches are sent."""

import re
from typing import Any

import jax
import numpy as np
import pytest
from training.small_run import GROUPS, Run, settings, small_network

from alljax.training.network import Network
from alljax.training.sharding import Mesh

ALL = settings(groups=GROUPS)


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


class Recording(Mesh):
    """Keeps the training step, before it is compiled, and its arguments."""

    def jit(self, function: Any, batch: int | None = None, donate: int | tuple[()] = ()) -> Any:
        compiled = super().jit(function, batch, donate)

        def call(*arguments: Any) -> Any:
            self.traced, self.arguments = compiled.trace(*arguments), arguments
            return compiled(*arguments)

        return compiled if donate == () else call


def test_step_on_eight_devices(network: Network) -> None:
    """Gradients are the only large arrays that devices exchange, once; the old state's memory holds the new one."""
    run = Run(ALL, network, mesh=Recording())
    state = run.steps(1)
    old, new = run.tuner.mesh.arguments[0], state
    module = run.tuner.mesh.traced.lower().compile()
    text, memory = re.sub(r"/\*.*?\*/", "", module.as_text()), module.memory_analysis()
    assert not re.findall(r"= [^=]*(all-to-all|all-gather|collective-permute|reduce-scatter)(?:-start)?\(", text)
    gradient = sum(leaf.size for leaf in jax.tree.leaves(new.params))
    statistics = 4 * sum(leaf.size for leaf in jax.tree.leaves(new.batch_stats))  # of the forward and backward pass
    results = " ".join(re.findall(r"= ([^=]*) all-reduce(?:-start)?\(", text))
    shapes = [[int(side) for side in sides.split(",") if side] for sides in re.findall(r"f32\[([\d,]*)\]", results)]
    reduced = sum(int(np.prod(shape)) for shape in shapes)
    assert gradient <= reduced <= gradient + statistics + 100, (gradient, reduced)
    assert memory.alias_size_in_bytes >= sum(leaf.nbytes for leaf in jax.tree.leaves((new.params, new.opt_state)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((old.params, old.opt_state)))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_bfloat16_has_no_convolution_in_float32(platform: str, network: Network) -> None:
    run = Run(settings(groups=GROUPS, compute="bfloat16"), network, mesh=Recording())
    run.steps(1)
    text = run.tuner.mesh.traced.lower(lowering_platforms=(platform,)).as_text()
    types = re.findall(r"stablehlo\.convolution.* : \((.*)\) -> (.*)", text)
    assert len(types) == 8
    assert not [pair for pair in types if "f32" in " ".join(pair)]


def test_next_batch_is_sent_before_the_step_ends(network: Network, tmp_path: Any, monkeypatch: Any) -> None:
    """No step waits for its images: each is placed before the step before it is dispatched."""
    events, run = list[str](), Run(settings(log_steps=100, checkpoint_steps=100), network, tmp_path)
    place, step = run.loader._place, run.tuner.step
    monkeypatch.setattr(run.loader, "_place", lambda batch: (events.append("place"), place(batch))[1])
    monkeypatch.setattr(run.tuner, "step", lambda *arguments: (events.append("step"), step(*arguments))[1])
    batches = run.loader.train(0)
    state = run.tuner.init(run.inputs)
    for batch in batches:
        state = run.tuner.step(state, batch, run.inputs, 0)
    count = events.count("step")
    assert events[:3] == ["place", "place", "step"]
    assert events == ["place", *["place", "step"] * (count - 1), "step"]
