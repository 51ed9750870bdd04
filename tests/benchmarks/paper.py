"""The study of the paper at its true size, and the same work with PyTorch and Keras.

    .venv/bin/python tests/benchmarks/paper.py --torch-python=/tmp/torch/bin/python --keras-python=/tmp/keras/bin/python

The other libraries are in environments of their own and are left out if none is named:

    python3.11 -m venv /tmp/torch && /tmp/torch/bin/pip install torch==2.13.0 torchvision numpy
    python3.11 -m venv /tmp/keras && /tmp/keras/bin/pip install keras==3.15.1 tensorflow-cpu==2.21.0

Three parts (``--parts=study,flatten`` runs two of them):

    study    `alljax study --config=configs/paper.py:small` with 10,661 generated images of 224 pixels under the names
             of the real ones.  Every --config.key=value is passed to it.
    flatten  heads on 25,088 and 100,352 features in a mapped file: two epochs, extrapolated to 100.
    slices   one batch of images through each backbone and two epochs of each head, with each library, in interleaved
             rounds; extrapolated to the paper's 32 trainings.  PyTorch computes features once and trains 32 heads;
             Keras has the frozen backbone inside `fit`.  Reading images is not included; weights are random.

All parts take about three quarters of an hour on two cores.  Other programs would slow PyTorch and TensorFlow more than
alljax.  Progress goes to standard error, tables to standard output, all numbers to --out.  Linux only.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paper_work import BATCH, IMAGES, OPTIMIZERS, TRAINING_IMAGES, WIDTHS
from PIL import Image

from alljax.data import cnmc
from alljax.data.synthetic import render_cell
from alljax.paper.published import EPOCHS

HERE = Path(__file__).resolve().parent
WORK = HERE / "paper_work.py"
FLATTENED = (25_088, 100_352)
LIBRARIES = {
    "alljax": "alljax",
    "torch": "PyTorch, cached features, 32 fits",
    "keras": "Keras, backbone inside `fit`",
}


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the study through the command line; nothing is computed before."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder, images = Path(scratch) / "study", Path(scratch) / "images"
        write_images(images)
        command = [Path(sys.executable).with_name("alljax"), "study", "--config=configs/paper.py:small",
                   f"--workdir={folder}", f"--config.data.source={images}", *options.overrides]  # fmt: skip
        environment, start = os.environ | {"ALLJAX_CACHE_DIR": f"{scratch}/cache"}, time.perf_counter()
        subprocess.run(command, check=True, env=environment, cwd=HERE.parents[1], stdout=sys.stderr)
        seconds, metrics = time.perf_counter() - start, json.loads((folder / "metrics.json").read_text())
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {
            "images": metrics["dataset"]["images"], "trials": len(metrics["trials"]), "seconds": seconds,
            "failed": metrics.get("failed", {}), "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            "bytes": sum(path.stat().st_size for path in files), "report": (folder / "report.html").stat().st_size,
        }  # fmt: skip


def write_images(folder: Path, size: int = 224) -> None:
    """Writes generated images under the names of the training images of C-NMC 2019: ``fold_k/label/name.bmp``."""
    for record in (record for record in cnmc.expected().values() if record.subset == "train"):
        path = folder / f"fold_{record.fold}" / cnmc.CLASSES[record.label] / record.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render_cell(0, record.subject, int(record.field), int(record.cell), size)).save(path)


def show_study(found: dict[str, Any]) -> None:
    """Prints a line."""
    print(f"`alljax study`: {found['trials']} trials, {found['images']:,} images: {duration(found['seconds'])}, peak "
          f"memory {gigabytes(found['peak'])}, study {gigabytes(found['bytes'])}, report.html "
          f"{found['report'] / 1e6:.1f} MB\n")  # fmt: skip


def flatten(options: argparse.Namespace) -> dict[int, Any]:
    """Trains heads on flattened features, which are never in memory at once."""
    found = {}
    for width in options.widths:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            found[width] = json.loads(subprocess.check_output([sys.executable, WORK, "flatten", str(width), folder]))
    return found


def show_flatten(found: dict[int, Any]) -> None:
    """Prints a table."""
    rows = []
    for width, work in found.items():
        for optimizer, training in work["trainings"].items():
            first, later = training["epochs"]
            rows.append((f"{width:,}, {optimizer}", gigabytes(work["bytes"]), duration(first), duration(later),
                         duration(first + (EPOCHS[-1] - 1) * later), gigabytes(training["own_memory"])))  # fmt: skip
    table(("features, optimizer", "file", "first epoch", "second epoch", "100 epochs", "memory without mapped pages"),
          rows)  # fmt: skip


class Slices:
    """A process that does slices of the work of one library."""

    def __init__(self, name: str, python: Path, images: int) -> None:
        """Starts it."""
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        command, pipe = [python, WORK, "slices", name, str(images)], subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | quiet)
        self.name, self.peak, self.versions = name, 0, self._answer()
        self.seconds: dict[str, list[dict[str, float]]] = {}

    def measure(self, work: Sequence[str], keep: bool) -> None:
        """Does a slice; the `fit` of Keras trains heads and computes features at once."""
        if self.name == "keras" and work[0] == "head":
            return
        assert self._process.stdin
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        seconds, self.peak = self._answer()
        print(f"{self.name} {' '.join(work)}: {seconds}", file=sys.stderr, flush=True)
        if keep:
            self.seconds.setdefault(" ".join(work), []).append(seconds)

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline() or sys.exit(f"{self.name} has ended; see above"))


def slices(options: argparse.Namespace) -> dict[str, Any]:
    """Measures in interleaved rounds, the order of the libraries reversed each time; the first round warms up."""
    pythons = {"alljax": Path(sys.executable), "torch": options.torch_python, "keras": options.keras_python}
    processes = [Slices(name, python, options.images) for name, python in pythons.items() if python]
    works = [("features", backbone) for backbone in WIDTHS]
    works += [("head", backbone, optimizer) for backbone in WIDTHS for optimizer in OPTIMIZERS]
    for number in range(options.rounds + 1):
        for work in works:
            for process in processes[:: 1 if number % 2 else -1]:
                process.measure(work, keep=number > 0)
    for process in processes:
        process.close()
    return {
        process.name: {
            "versions": process.versions, "peak": process.peak, "slices": process.seconds,
            "study": [extrapolate(process.name, {work: found[number] for work, found in process.seconds.items()})
                      for number in range(options.rounds)],
        } for process in processes
    }  # fmt: skip


def extrapolate(library: str, seconds: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns the seconds of the parts of the paper's study, from those of one round of slices."""
    parts = {}
    for backbone in WIDTHS:
        image = seconds[f"features {backbone}"]
        if library == "keras":  # every epoch computes the features of all images, those of the test too
            epoch = TRAINING_IMAGES * image["image"] + (IMAGES - TRAINING_IMAGES) * image["validation image"]
            parts[f"heads {backbone}"] = len(OPTIMIZERS) * sum(EPOCHS) * epoch
        else:
            epochs = EPOCHS[-1] if library == "alljax" else sum(EPOCHS)  # shorter trainings are prefixes of the longest
            parts[f"features {backbone}"] = IMAGES * image["image"]
            heads = (seconds[f"head {backbone} {optimizer}"]["epoch"] for optimizer in OPTIMIZERS)
            parts[f"heads {backbone}"] = epochs * sum(heads)
    return parts


def show_slices(found: dict[str, Any]) -> None:
    """Prints the extrapolated study, and the rates that were measured."""
    totals = {name: [sum(parts.values()) for parts in work["study"]] for name, work in found.items()}
    rows = []
    for part in (f"{kind} {backbone}" for kind in ("features", "heads") for backbone in WIDTHS):
        parts = [[parts[part] for parts in work["study"] if part in parts] for work in found.values()]
        rows.append((part, *(duration(statistics.median(each)) if each else "in every epoch" for each in parts)))
    rows.append(("all", *(duration(statistics.median(total)) for total in totals.values())))
    ratios = (np.divide(total, totals["alljax"]) for total in totals.values())
    rows.append(("compared with alljax", *(spread(each, "×") for each in ratios)))
    rows.append(("peak memory", *(gigabytes(work["peak"]) for work in found.values())))
    table(("", *(LIBRARIES[name] for name in found)), rows)
    rows = []
    for work, rounds in found["alljax"]["slices"].items():
        (kind,) = rounds[0]
        measured = (each["slices"].get(work, []) for each in found.values())
        rates = [[1 / seconds[kind] for seconds in each] for each in measured]
        rows.append((work, *(spread(each, f"{kind}s/s") if each else "–" for each in rates)))
    table(("median (lowest … highest)", *(work["versions"] for work in found.values())), rows)


def spread(values: Any, unit: str) -> str:
    """Returns median, lowest and highest."""
    median, low, high = (f"{value:,.3g}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} {unit} ({low} … {high})"


def duration(seconds: float) -> str:
    """Returns a time in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def gigabytes(count: float) -> str:
    """Returns bytes for display."""
    return f"{count / 1e9:.2f} GB"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints Markdown."""
    print(f"| {' | '.join(header)} |\n|---|{'---:|' * (len(header) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


PARTS = {"study": (study, show_study), "flatten": (flatten, show_flatten), "slices": (slices, show_slices)}


def main() -> None:
    """Runs the parts that are named, prints their tables and writes all numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--parts", default=",".join(PARTS), help="default: %(default)s")
    add("--keras-python", type=Path, metavar="PATH", help="a Python with keras and tensorflow")
    add("--torch-python", type=Path, metavar="PATH", help="a Python with torch and torchvision")
    add("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="for large files; default: %(default)s")
    add("--widths", type=int, nargs="+", default=FLATTENED, help="of part flatten; default: %(default)s")
    add("--images", type=int, default=64, help=f"in a slice, a multiple of {BATCH}; default: %(default)s")
    add("--rounds", type=int, default=5, help="of part slices; default: %(default)s")
    add("--out", type=Path, metavar="FILE", help="all numbers, as JSON")
    options, options.overrides = parser.parse_known_args()
    found: dict[str, Any] = {}
    for part in options.parts.split(","):
        work, show = PARTS[part]
        found[part] = work(options)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")
        show(found[part])


if __name__ == "__main__":
    main()
