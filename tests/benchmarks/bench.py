"""alljax and its peers side by side: `make bench`, or parts of it.

    make bench BENCH_ARGUMENTS="--parts=features,heads --rounds=3"
    make bench BENCH_ARGUMENTS=--quick

Every library runs in processes of its own, twice: with all cores, where the wall time counts, and on one core, where
the processor time counts, which other load disturbs least.  Slices of work take turns, in an order that is reversed in
every round; ratios are those within a round.  The first round warms up and is not counted.

    features  images through frozen backbones with the same random weights: outputs are compared
    heads     steps of heads on 10,661 feature vectors, a single head and four at once
    data      decoding and resizing of BMP files; `filled` images have no black border as cells have
    finetune  steps of all parameters of a backbone
    paper     the 32 trainings of the paper, extrapolated from slices; without decoding
    demo      the command of `make demo` with an empty cache
    scaling   how time and memory of studies grow, see scaling.py; alljax only

Weights, pixels and features are random.  The peers are installed into a virtual environment, .venv/peers, unless
--peers names others.  Results go to --out: bench.json, bench.md and the figures of `scaling`.  Linux only.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scaling
import workload
from PIL import Image
from workers import Worker
from workload import BACKBONES, OPTIMIZERS, WIDTHS, Sizes

from alljax.data.synthetic import render_cell
from alljax.paper.published import EPOCHS
from alljax.progress import duration

ROOT = Path(__file__).resolve().parents[2]
PINNED = ("torch==2.14.1", "torchvision==0.29.1", "timm==1.0.31", "onnx==1.23.2", "onnxscript==0.7.2",
          "onnxruntime==1.32.0", "keras==3.15.1", "tensorflow-cpu==2.21.0", "pillow==13.0.0",
          "numpy==2.4.6")  # fmt: skip
LIBRARIES = {"alljax": "alljax", "onnxruntime": "ONNX Runtime", "torch": "PyTorch", "keras": "Keras",
             "tensorflow": "tf.data"}  # fmt: skip
DISTRIBUTIONS = {"tensorflow": "tensorflow_cpu"}
CORES = sorted(os.sched_getaffinity(0))
MEASURES = {"wall": CORES, "cpu": CORES[-1:]}
"""What is measured, and the cores that it is measured on."""
HEADS = 4
"""Number of heads that are trained at once."""

Seconds = dict[str, dict[str, list[float]]]
"""Seconds per unit of work in each round, by measure and library."""


@dataclass
class Row:
    """One line of the table."""

    part: str
    work: str
    unit: str
    target: str
    seconds: Seconds
    memory: dict[str, int] = field(default_factory=dict)  # peak in bytes, by library
    difference: float | None = None  # of the outputs, relative to the largest

    def ratio(self, measure: str) -> tuple[str, list[float]]:
        """Returns the fastest peer, and its seconds divided by ours in each round."""
        found = self.seconds.get(measure, {})
        peers = {name: statistics.median(rounds) for name, rounds in found.items() if name != "alljax"}
        peer = min(peers, key=peers.__getitem__, default="")
        rounds = zip(found[peer], found["alljax"], strict=True) if peer else ()
        return peer, [theirs / ours for theirs, ours in rounds]

    def cell(self, library: str) -> str:
        """Returns units per second on all cores and the processor time per unit on one, or durations of long work."""
        texts = []
        for measure, found in self.seconds.items():
            median = statistics.median(found.get(library, [0]))
            if median and self.unit in ("study", "command"):
                texts.append(duration(median) + " CPU" * (measure == "cpu"))
            elif median:
                texts.append(f"{1 / median:,.3g}/s" if measure == "wall" else f"{1000 * median:,.3g} ms")
        return ", ".join(texts)

    def cells(self) -> dict[str, str]:
        """Returns the texts of the columns."""
        texts = {f"{self.part}: what": self.work}
        texts |= {name: self.cell(library) for library, name in LIBRARIES.items()}
        for measure in MEASURES:
            peer, ratios = self.ratio(measure)
            texts[f"ratio, {measure}"] = f"{spread(ratios)} {LIBRARIES[peer]}" if peer else ""
        return texts | {
            "target": self.target, "difference": "" if self.difference is None else f"{self.difference:.1e}",
        }  # fmt: skip


def spread(values: Sequence[float]) -> str:
    """Returns median, lowest and highest."""
    return f"{statistics.median(values):,.3g} [{min(values):,.3g}, {max(values):,.3g}]"


class Bench:
    """Measures slices of work; every slice is measured once, also where several parts use it."""

    def __init__(self, options: argparse.Namespace, pythons: dict[str, Path], folder: Path) -> None:
        self.options, self.folder = options, folder
        self.sizes = workload.QUICK if options.quick else Sizes()
        # ResNets compile for long.
        self.backbones = [name for name in BACKBONES if not (options.quick and name.startswith("resnet"))]
        self._pythons, self._workers = pythons, dict[tuple[str, str], Worker]()
        self.measure = functools.cache(self._measure)

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """Ends the processes of a part with it."""
        yield
        while self._workers:
            self._workers.popitem()[1].close()

    def row(self, part: str, work: str, unit: str, target: str, question: tuple[Any, ...], *peers: str) -> Row:
        """Returns the line of a slice of work."""
        seconds, memory, difference = self.measure(question, ("alljax", *peers))
        return Row(part, work, unit, target, seconds, memory, difference)

    def _measure(
        self, question: tuple[Any, ...], libraries: tuple[str, ...]
    ) -> tuple[Seconds, dict[str, int], float | None]:
        """Returns the seconds, the peak memory and the largest relative difference of the outputs."""
        libraries = tuple(library for library in libraries if library in self._pythons)
        turns = [(measure, library) for measure in self.options.measure for library in libraries]
        seconds: Seconds = {measure: {library: [] for library in libraries} for measure in self.options.measure}
        memory, outputs = dict[str, int](), dict[str, np.ndarray]()
        for number in range(self.options.rounds + 1):
            for measure, library in turns[:: 1 if number % 2 else -1]:
                answer = self._worker(library, measure).ask(question)
                if number:
                    seconds[measure][library].append(answer[measure])
                    memory[library] = max(memory.get(library, 0), answer["memory"])
                if "outputs" in answer:
                    outputs[library] = np.load(answer["outputs"])
            print(f"{' '.join(map(str, question))}: round {number} of {self.options.rounds}", file=sys.stderr)
        ours = outputs.pop("alljax", None)
        differences = [np.abs(theirs - ours).max() / np.abs(theirs).max() for theirs in outputs.values()]
        return seconds, memory, float(max(differences)) if differences else None

    def _worker(self, library: str, measure: str) -> Worker:
        measure = "wall" if self.options.quick else measure
        if (key := (library, measure)) not in self._workers:
            worker = Worker(self._pythons[library], library, self.sizes, MEASURES[measure], self.folder)
            self._workers[key] = worker
        return self._workers[key]


def features(bench: Bench) -> Iterator[Row]:
    """Images per second of the backbones."""
    targets = {
        "vgg16": "≥ 1.9", "resnet18": "≥ 1.3", "resnet50": "≥ 1.05", "resnet101": "–",
        "efficientnet_lite0": "≥ 0.95", "mobilenet_v2": "≥ 1.0",
    }  # fmt: skip
    for backbone in bench.backbones:
        yield bench.row("features", backbone, "image", targets[backbone], ("features", backbone), *_peers(backbone))


def _peers(backbone: str) -> tuple[str, ...]:
    return ("torch", "onnxruntime", "keras") if backbone == "vgg16" else ("torch", "onnxruntime")


def heads(bench: Bench) -> Iterator[Row]:
    """Steps per second of heads."""
    for width, target in zip(WIDTHS.values(), ("≥ 2.5", "≥ 2.0"), strict=True):
        for count in (1, HEADS):
            work = f"{width:,} features, Adam, {count} at once"
            yield bench.row("heads", work, "step", target, ("heads", width, "adam", count), "torch")


def data(bench: Bench) -> Iterator[Row]:
    """Images per second of decoding and resizing."""
    for filled in (False, True):
        kind = "filled" if filled else "cells"
        folder = bench.folder / kind
        folder.mkdir()
        draw(folder, bench.sizes, filled)
        for antialias in (True, False):
            work = f"{kind}, {'' if antialias else 'not '}antialiased"
            peers = ("tensorflow", "torch") if antialias else ("tensorflow",)
            yield bench.row(
                "data", work, "image", "" if antialias else "≥ 1.0", ("data", str(folder), antialias), *peers
            )


def draw(folder: Path, sizes: Sizes, filled: bool) -> None:
    """Writes BMP files of cells, on black or in the middle of noise."""
    random = np.random.default_rng(0)
    for number in range(sizes.files):
        pixels = render_cell(0, str(number % 20), number // 20, 1, sizes.side)
        if filled:
            pixels = np.where(pixels.any(-1, keepdims=True), pixels, random.integers(1, 256, pixels.shape, np.uint8))
        Image.fromarray(pixels).save(folder / f"{number:05}.bmp")


def finetune(bench: Bench) -> Iterator[Row]:
    """Steps of fine-tuning."""
    targets = {"vgg16": "≥ 1.0", "resnet50": "≥ 1.2"}
    for backbone in filter(targets.get, bench.backbones):
        yield bench.row("finetune", backbone, "step", targets[backbone], ("finetune", backbone), "torch")


def paper(bench: Bench) -> Iterator[Row]:
    """The study of the paper, with each peer."""
    backbones = [backbone for backbone in bench.backbones if backbone in WIDTHS]
    kinds = [(("features", backbone), ("alljax", *_peers(backbone))) for backbone in backbones]
    kinds += [(("heads", WIDTHS[name], each, 1), ("alljax", "torch")) for name in backbones for each in OPTIMIZERS]
    kinds += [(("fit", backbone, validation), ("keras",)) for backbone in backbones for validation in (False, True)]
    slices = {question: bench.measure(question, libraries)[0] for question, libraries in kinds}
    seconds: Seconds = {}
    for measure in bench.options.measure:
        for library in ("alljax", "torch", "keras"):
            rounds = [
                extrapolate(library, {question: found[measure][library][number] for question, found in slices.items()
                                      if library in found[measure]})
                for number in range(bench.options.rounds)
            ]  # fmt: skip
            if all(rounds):
                seconds.setdefault(measure, {})[library] = rounds
    for peer, target, work in (
        ("torch", "≥ 2.5", "cached features, 32 fits"),
        ("keras", "≥ 1,100", "backbone in `fit`"),
    ):
        both = {m: {name: found[name] for name in ("alljax", peer) if name in found} for m, found in seconds.items()}
        yield Row("paper", f"32 trainings; peer: {work}", "study", target, both)


def extrapolate(library: str, seconds: dict[tuple[Any, ...], float]) -> float:
    """Returns the seconds of the paper's study from those per image and step; 0 if the library was not measured."""
    sizes, total = Sizes(), 0.0
    if library == "keras":  # every epoch computes the features of all images, those of the test too
        epochs = len(OPTIMIZERS) * sum(EPOCHS)
        counts = {False: sizes.training_cells, True: sizes.cells - sizes.training_cells}
        return sum(epochs * counts[key[-1]] * each for key, each in seconds.items() if key[0] == "fit")
    epochs = EPOCHS[-1] if library == "alljax" else sum(EPOCHS)  # our shorter trainings are prefixes of the longest
    for (kind, *_), each in seconds.items():
        total += each * (sizes.cells if kind == "features" else epochs * workload.steps(sizes))
    return total


def demo(bench: Bench) -> Iterator[Row]:
    """The command of `make demo`; in a quick run a smaller study."""
    quick = ["--config.data.synthetic.images=24", "--config.train.epochs=1", "--config.data.synthetic.image_size=64",
             "--config.preprocessing.image_size=64", "--config.study.seeds=1", "--config.evaluation.resamples=100",
             "--config.split.protocol=subject_holdout"] if bench.options.quick else []  # fmt: skip
    found = [scaling.study("--config=configs/quickstart.py", *quick) for _ in range(min(bench.options.rounds, 3))]
    seconds = {measure: {"alljax": [getattr(run, measure) for run in found]} for measure in MEASURES}
    yield Row("demo", "make demo", "command", "≤ 35 CPU-seconds", seconds, {"alljax": max(run.memory for run in found)})


PARTS = {"features": features, "heads": heads, "data": data, "finetune": finetune, "paper": paper, "demo": demo}


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a Markdown table without empty columns."""
    cells = [row.cells() for row in rows]
    columns = [name for name in cells[0] if any(each[name] for each in cells)]
    lines = [columns, ["---"] * len(columns), *([each[name] or "–" for name in columns] for each in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(pythons: dict[str, Path]) -> dict[str, str]:
    """Returns the processor and the versions of the libraries."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    found = {"processor": f"{len(CORES)} cores of {(models or [platform.machine()])[0]}"}
    for name in ("alljax", "jax", "numpy", "pillow"):
        found[name] = importlib.metadata.version(name)
    for library in pythons.keys() - {"alljax"}:
        pattern = f"lib/*/site-packages/{DISTRIBUTIONS.get(library, library)}-*.dist-info"
        for package in pythons[library].parents[1].glob(pattern):
            found[library] = package.name.removesuffix(".dist-info").rpartition("-")[2]
    return found | {"python": platform.python_version(), "date": time.strftime("%Y-%m-%d")}


def find_peers(options: argparse.Namespace) -> dict[str, Path]:
    """Returns the Python that runs each library; installs the peers where none are named."""
    own = ROOT / ".venv/peers"
    if not options.peers and not options.quick and not (own / "ready").exists():
        venv.create(own, with_pip=True, clear=True)
        subprocess.run([own / "bin/python", "-m", "pip", "install", "--quiet", *PINNED], check=True, stdout=sys.stderr)
        (own / "ready").touch()
    pythons = {"alljax": Path(sys.executable)}
    for folder in [Path(name) for name in options.peers.split(",")] if options.peers else [own]:
        for library in LIBRARIES:
            if any(folder.glob(f"lib/*/site-packages/{library}/__init__.py")):
                pythons.setdefault(library, folder.resolve() / "bin/python")
    return pythons


def words(text: str) -> list[str]:
    """Returns the words of a list."""
    return text.split(",")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts, add = (*PARTS, "scaling"), parser.add_argument
    add("--parts", type=words, default=parts, metavar="PART[,PART]", help="default: all")
    add("--peers", default="", metavar="DIR[,DIR]", help="existing virtual environments; none: no peers")
    add("--measure", type=words, default=tuple(MEASURES), metavar="wall|cpu", help="default: both")
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--quick", action="store_true", help="one round of tiny sizes; installs nothing")
    add("--out", type=Path, default=ROOT / "runs/bench", metavar="DIR", help="default: runs/bench")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}")
    options.rounds = 1 if options.quick else options.rounds
    return options


def main(arguments: Sequence[str]) -> None:
    """Measures the parts and writes the results after each of them."""
    options = parse(arguments)
    pythons = find_peers(options)
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(pythons), "rows": []}
    texts = [", ".join(f"{name} {version}" for name, version in results["machine"].items())]
    print(texts[0])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, pythons, Path(folder))
        for part in options.parts:
            if part == "scaling":
                results[part], text = scaling.measure(options.quick, options.out)
            else:
                with bench.part():
                    rows = list(PARTS[part](bench))
                results["rows"] += [asdict(row) for row in rows]
                text = table(rows)
            texts.append(text)
            print(f"\n{text}", flush=True)
            (options.out / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
            (options.out / "bench.md").write_text("\n\n".join(texts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
