"""Backbones on an accelerator, beside PyTorch; see bench_gpu.sh.

Every measurement runs in a process of its own, so that libraries do not share the memory of the device.  Images are
uint8 in host memory and are copied to the device, outputs are read back.  FLOPs are those that XLA counts in the
forward pass (`cost_analysis`), three times as many for a training step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/benchmarks"))
import workload
from workers import Clock, peak_memory
from workload import BACKBONES, OPTIMIZERS, QUICK, WIDTHS, Sizes

EPOCHS = (10, 20, 30, 40, 50, 60, 80, 100)
"""Of the paper; with alljax the shorter trainings are prefixes of the longest."""
FULL = Sizes(images=2048, batch=256, epochs=EPOCHS[-1])
STEP = Sizes(batch=64)
TINY = replace(QUICK, epochs=2)
PEAKS = {
    "H100 PCIe": (756, 378), "H100": (989, 495), "H200": (989, 495), "A100": (312, 156), "L40S": (362, 183),
    "RTX 4090": (165, 82.6), "L4": (121, 60),
}  # fmt: skip
"""TFLOP/s without sparsity in bfloat16 and TF32, from NVIDIA's data sheets, by a part of the card's name."""
DEVICE = "cpu"
"""Of torch."""

Measured = dict[str, Any]


def alljax_features(sizes: Sizes, backbone: str, compute: str) -> Measured:
    """Returns the rate, FLOPs per image and peak memory; float32 is computed by `feature_blocks`, as in a study."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import ours

    from alljax import config as configs
    from alljax.models.head import POOLINGS
    from alljax.training.feature_extraction import feature_blocks

    network = ours.make_network(backbone, sizes.image_size)
    images, variables = workload.pixels(sizes.images, sizes.image_size), jax.device_put(network.variables)

    @jax.jit
    def extract(variables: Any, images: Any) -> Any:
        inputs = network.preprocessing(images).astype(compute)
        stages = network.backbone.module.apply(variables, inputs, last=network.stage)
        return POOLINGS[network.pool](stages[network.stage]).astype(jnp.float32)

    def work() -> None:
        jax.device_get([extract(variables, part) for part in np.split(images, len(images) // sizes.batch)])

    def stream() -> None:
        config = configs.vary(configs.default_config(), {"features.batch_size": sizes.batch})
        np.concatenate([block for (block,) in feature_blocks([network], ours.image_source(images), config)])

    rate = time_of(work if compute == "bfloat16" else stream, sizes.images)
    cost = extract.lower(variables, images[: sizes.batch]).compile().cost_analysis()
    return {"rate": rate, "flops": cost["flops"] / sizes.batch, "memory": jax_memory()}


def alljax_step(sizes: Sizes, backbone: str, compute: str) -> Measured:
    """Returns the rate of fine-tuning steps in images per second, and the peak memory."""
    import ours

    run = ours.finetune(sizes, backbone, compute)
    return {"rate": time_of(lambda: run(Clock()), sizes.batch, calls=20), "memory": jax_memory()}


def alljax_paper(sizes: Sizes) -> Measured:
    """Returns the seconds from decoded images to the 32 trained heads, with compilation."""
    import jax
    import numpy as np
    import ours

    from alljax.training.feature_extraction import feature_blocks

    images = workload.pixels(sizes.cells, sizes.image_size)
    start = time.perf_counter()
    for backbone, width in WIDTHS.items():
        config = ours.head_config("adam", 1)
        config.features.batch_size = sizes.batch
        blocks = feature_blocks([ours.make_network(backbone, sizes.image_size)], ours.image_source(images), config)
        features = jax.device_put(np.concatenate([block for (block,) in blocks]))
        for optimizer in OPTIMIZERS:
            ours.heads(sizes, width, optimizer, 1, features)(Clock())
    return {"seconds": time.perf_counter() - start, "memory": jax_memory()}


def jax_memory() -> int:
    """Returns the peak bytes of the device, or of the process where the device does not report them."""
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", peak_memory())


def torch_features(sizes: Sizes, backbone: str, compute: str) -> Measured:
    """Returns the rate in images per second and the peak memory."""
    import peers
    import torch

    network = compiled(peers.torch_network(backbone).eval())
    images = torch.from_numpy(workload.pixels(sizes.images, sizes.image_size))

    def work() -> None:
        with torch.inference_mode(), torch.autocast(DEVICE, getattr(torch, compute), enabled=compute == "bfloat16"):
            outputs = [network(part.to(DEVICE, non_blocking=True)) for part in images.split(sizes.batch)]
        torch.cat(outputs).float().cpu()

    return {"rate": time_of(work, sizes.images), "memory": torch_memory()}


def torch_step(sizes: Sizes, backbone: str, compute: str) -> Measured:
    """Returns the rate of training steps in images per second, and the peak memory."""
    import peers
    import torch

    width = (WIDTHS | {"resnet18": 512, "resnet101": 2048}).get(backbone, 1280)
    model = compiled(torch.nn.Sequential(peers.torch_network(backbone), peers.torch_head(width)).train())
    stepper = peers.torch_optimizer(model, "adam")
    images = torch.from_numpy(workload.pixels(sizes.batch, sizes.image_size))
    labels = torch.from_numpy(workload.labels(sizes.batch)).long().to(DEVICE)

    def work() -> None:
        stepper.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, getattr(torch, compute), enabled=compute == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(model(images.to(DEVICE)).float(), labels)
        loss.backward()
        stepper.step()
        loss.item()

    return {"rate": time_of(work, sizes.batch, calls=20), "memory": torch_memory()}


def torch_paper(sizes: Sizes) -> Measured:
    """Returns the seconds of cached features and 32 separate trainings, extrapolated from slices."""
    import peers

    seconds = sum(sizes.cells / torch_features(sizes, backbone, "float32")["rate"] for backbone in WIDTHS)
    short = replace(sizes, epochs=min(sizes.epochs, 2))
    for width in WIDTHS.values():
        for optimizer in OPTIMIZERS:
            run = peers.torch_heads(short, width, optimizer, 1, DEVICE)
            seconds += sum(EPOCHS) * workload.steps(sizes) / time_of(lambda run=run: run(Clock()), run(Clock())[0])
    return {"seconds": seconds, "memory": torch_memory()}


def compiled(model: Any) -> Any:
    """Returns a compiled model on the device; TF32 is allowed, as in JAX by default."""
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    model = model.to(DEVICE)
    return torch.compile(model) if DEVICE == "cuda" else model


def torch_memory() -> int:
    """Returns the peak bytes of torch on the card, or of the process."""
    import torch

    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else peak_memory()


def time_of(work: Callable[[], object], units: int, calls: int = 1, rounds: int = 5) -> float:
    """Returns units per second, the median of rounds of `calls` calls after two that compile."""
    work(), work()
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        rates.append(calls * units / (time.perf_counter() - start))
    return statistics.median(rates)


def versions(library: str) -> Measured:
    """Returns the version of a library and the name of the device."""
    if library == "torch":
        import torch

        return {"version": torch.__version__, "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"}
    import jax

    return {"version": jax.__version__, "device": jax.devices()[0].device_kind}


def peak_of(device: str, compute: str) -> float | None:
    """Returns the peak FLOP/s of a device; None if it is unknown."""
    for name, (bfloat16, tf32) in PEAKS.items():
        if name in device:
            return 1e12 * (bfloat16 if compute == "bfloat16" else tf32)
    return None


def ask(python: str, library: str, *question: str, sizes: Sizes) -> Measured:
    """Returns what a measurement in a process of its own found; empty if it failed, with its errors shown."""
    command = [python, __file__, library, *question, json.dumps(asdict(sizes))]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if not Path(python).exists():
        return {}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def main() -> None:
    """Measures everything and prints a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sizes, step_sizes, paper_sizes = (TINY, TINY, TINY) if options.quick else (FULL, STEP, FULL)
    pythons, found = {"alljax": sys.executable, "torch": options.peers}, dict[str, Measured]()
    for library, python in pythons.items():
        if answer := ask(python, library, "versions", sizes=sizes):
            found[library] = answer
            print(f"{library}: {answer['version']} on {answer['device']}")
    print("\n| what | alljax | FLOP/s | utilization | memory | PyTorch | memory | ratio |\n|" + "---|" * 8)
    for backbone in ["efficientnet_lite0"] if options.quick else BACKBONES:
        flops = 0.0
        for mode, mode_sizes in (("features", sizes), ("step", step_sizes)):
            for compute in ("float32", "bfloat16"):
                measured = {each: ask(pythons[each], each, mode, backbone, compute, sizes=mode_sizes) for each in found}
                flops = measured["alljax"].get("flops", flops)
                factor = 1 if mode == "features" else 3  # a backward pass takes twice the FLOPs of the forward pass
                peak = peak_of(found["alljax"]["device"], compute)
                print(line(f"{backbone}, {mode}, {compute}, images/s", measured, factor * flops, peak), flush=True)
    measured = {each: ask(pythons[each], each, "paper", sizes=paper_sizes) for each in found}
    texts = {name: f"{answer['seconds']:,.1f} s" for name, answer in measured.items() if answer}
    print(f"\n32 trainings of the paper from decoded images: {texts}")


def line(what: str, measured: dict[str, Measured], flops: float, peak: float | None) -> str:
    """Returns a row of the table."""
    ours, theirs = measured["alljax"], measured.get("torch", {})
    cells = [what, "failed", "–", "–", "–", "–", "–", "–"]
    if ours:
        speed = ours["rate"] * flops
        share = f"{speed / peak:.0%}" if peak else "unknown peak"
        cells[1:5] = f"{ours['rate']:,.1f}", f"{speed / 1e12:,.2f} T", share, f"{ours['memory'] / 1e9:,.2f} GB"
    if theirs:
        cells[5:7] = f"{theirs['rate']:,.1f}", f"{theirs['memory'] / 1e9:,.2f} GB"
        cells[7] = f"{ours['rate'] / theirs['rate']:.2f}" if ours else "–"
    return f"| {' | '.join(cells)} |"


WORKS = {
    "alljax": {"features": alljax_features, "step": alljax_step, "paper": alljax_paper},
    "torch": {"features": torch_features, "step": torch_step, "paper": torch_paper},
}

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["alljax" | "torch" as library, kind, *details, sizes]:
            if library == "torch":
                import torch

                DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
            work = WORKS[library].get(kind, lambda sizes: versions(library))
            print(json.dumps(work(Sizes(**json.loads(sizes)), *details)))
        case _:
            main()
