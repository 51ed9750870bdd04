"""How time and memory of studies grow with images, image side, trials, seeds, classes and devices.

Each number is that of one command with an empty cache.  Processor time and peak memory are fitted with a + b nᵖ; the
exponent p says how the growing part grows.  Weights do not matter for time: the real ones of EfficientNet-Lite0 are
used, and of small images its first stages.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from scipy.optimize import nnls

ROOT = Path(__file__).resolve().parents[2]


class Cost(NamedTuple):
    """What a command took."""

    wall: float  # seconds
    cpu: float  # seconds
    memory: int  # peak in bytes


def study(*words: str, **variables: str) -> Cost:
    """Returns the costs of `alljax study` in the repository's root with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "alljax.cli", "study", f"--workdir={folder}/study", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "ALLJAX_CACHE_DIR": f"{folder}/cache"} | variables
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=sys.stderr)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def settings(**values: Any) -> list[str]:
    """Returns arguments of a study of small generated images; ``__`` in a name stands for a dot."""
    common = {"data__synthetic__image_size": 32, "preprocessing__image_size": 32, "data__synthetic__images": 600,
              "model__stage": "stage2", "train__epochs": 1, "split__protocol": "subject_holdout",
              "study__sweep": "()", "study__seeds": 1}  # fmt: skip
    words = (f"--config.{name.replace('__', '.')}={value}" for name, value in (common | values).items())
    return [f"--config={ROOT / 'configs/quickstart.py'}", *words]


def images(count: int) -> Cost:
    return study(*settings(data__synthetic__images=count, data__synthetic__subjects=min(count // 4, 100)))


def side(pixels: int) -> Cost:
    sides = {"data__synthetic__image_size": pixels, "preprocessing__image_size": pixels}
    return study(*settings(data__synthetic__images=300, model__stage="head", **sides))


def trials(count: int) -> Cost:
    rates = ",".join(f"{1e-4 * (1 + number / 100):.6f}" for number in range(count))
    return study(*settings(**({"study__sweep": f"(('train.learning_rate',({rates})),)"} if count > 1 else {})))


def seeds(count: int) -> Cost:
    return study(*settings(study__seeds=count, train__epochs=20))


def classes(count: int) -> Cost:
    """A `.npz` file of 1,200 images of noise whose brightness is that of the class."""
    random, labels = np.random.default_rng(0), np.arange(1200) % count
    pixels = random.integers(0, 100, (len(labels), 32, 32, 3)) + (labels * 150 // count)[:, None, None, None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, train_images=pixels.astype(np.uint8), train_labels=labels[:, None])
        return study(*settings(data__source=path, split__protocol="subject_kfold"))


def devices(count: int) -> Cost:
    tune = {"train__mode": "finetune", "train__epochs": 2, "train__loggers": "()", "train__groups": "(('.*',1.0),)"}
    flags = f"--xla_force_host_platform_device_count={count}"
    return study(*settings(data__synthetic__images=200, **tune), XLA_FLAGS=flags)


@dataclass(frozen=True)
class Quantity:
    """A size whose effect is measured."""

    name: str
    run: Callable[[int], Cost]
    sizes: Sequence[int]
    quick: Sequence[int] = ()


QUANTITIES = (
    Quantity("images", images, (1_000, 10_000, 100_000), (32, 64)),
    Quantity("side in pixels", side, (128, 224, 320)),
    Quantity("trials", trials, (1, 8, 32, 320)),
    Quantity("seeds", seeds, (1, 4, 16)),
    Quantity("classes", classes, (2, 100)),
    Quantity("devices", devices, (1, 2, 4, 8)),
)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float | None:
    """Returns p of the best fit a + b nᵖ, a and b at least 0, by relative squares; None for less than three points."""
    if len(sizes) < 3:
        return None
    if max(values) < 1.1 * min(values):
        return 0.0  # growth within the noise
    numbers, target = np.array(sizes, float) / max(sizes), np.array(values)

    def residual(power: float) -> float:
        basis = np.stack([np.ones_like(numbers), numbers**power], 1) / target[:, None]
        return nnls(basis, np.ones_like(target))[1]

    return float(min(np.arange(0.05, 3, 0.05), key=residual))


def measure(quick: bool, out: Path) -> tuple[Any, str]:
    """Returns all costs, and a Markdown table; draws a figure per quantity into `out`."""
    found: dict[str, Any] = {}
    lines = [
        "| scaling: what | sizes | CPU-seconds | exponent | peak memory in MB | exponent |",
        "|---|---|---|---|---|---|",
    ]
    for quantity in QUANTITIES:
        sizes = quantity.quick if quick else quantity.sizes
        if not sizes:
            continue
        costs = [quantity.run(size) for size in sizes]
        found[quantity.name] = {"sizes": sizes, "costs": [cost._asdict() for cost in costs]}
        cells = [quantity.name, ", ".join(f"{size:,}" for size in sizes)]
        for values in ([cost.cpu for cost in costs], [cost.memory / 1e6 for cost in costs]):
            power = exponent(sizes, values)
            cells += [", ".join(f"{value:,.0f}" for value in values), "–" if power is None else f"{power:.2g}"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
        draw(quantity.name, sizes, costs, out)
    return found, "\n".join(lines)


def draw(name: str, sizes: Sequence[int], costs: Sequence[Cost], out: Path) -> None:
    """Writes a figure of processor time and peak memory on logarithmic axes."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "alljax"})
    figure, axes = pyplot.subplots(1, 2, figsize=(6.4, 2.4), layout="constrained")
    for axis, label, values in zip(axes, ("CPU-seconds", "peak memory in MB"),
                                   ([cost.cpu for cost in costs], [cost.memory / 1e6 for cost in costs]),
                                   strict=True):  # fmt: skip
        axis.loglog(sizes, values, "o-")
        axis.set(xlabel=name, ylabel=label, ylim=(min(values) / 2, max(values) * 2), xticks=sizes)
        axis.set_xticklabels([f"{size:,}" for size in sizes])
        axis.minorticks_off()
    figure.savefig(out / f"scaling-{name.split()[0]}.svg", metadata={"Date": None})
    pyplot.close(figure)
