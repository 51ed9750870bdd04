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
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas
from paper_work import BATCH, IMAGES, OPTIMIZERS, TRAINING_IMAGES, WIDTHS
from PIL import Image
from rounds import Worker

from alljax.data import cnmc
from alljax.data.synthetic import render_cell
from alljax.paper.published import EPOCHS
from alljax.progress import duration

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
    sizes = {name: f"{found[name] / 1e9:.3f} GB" for name in ("peak", "bytes", "report")}
    print(f"`alljax study`: {found['trials']} trials, {found['images']:,} images: {duration(found['seconds'])}, peak "
          f"memory {sizes['peak']}, study {sizes['bytes']}, report.html {sizes['report']}\n")  # fmt: skip


def flatten(options: argparse.Namespace) -> dict[int, Any]:
    """Trains heads on flattened features, which are never in memory at once."""
    found = {}
    for width in options.widths:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            found[width] = json.loads(subprocess.check_output([sys.executable, WORK, "flatten", str(width), folder]))
    return found


def show_flatten(found: dict[int, Any]) -> None:
    """Prints a table."""
    rows = {}
    for width, work in found.items():
        for optimizer, training in work["trainings"].items():
            first, later = training["epochs"]
            rows[f"{width:,}, {optimizer}"] = {
                "file in GB": work["bytes"] / 1e9, "first epoch": duration(first), "second epoch": duration(later),
                "100 epochs": duration(first + (EPOCHS[-1] - 1) * later),
                "memory in GB without mapped pages": training["own_memory"] / 1e9,
            }  # fmt: skip
    print(pandas.DataFrame(rows).T.to_string(), "\n")


def slices(options: argparse.Namespace) -> dict[str, Any]:
    """Measures in interleaved rounds, the order of the libraries reversed each time; the first round warms up."""
    pythons = {"alljax": Path(sys.executable), "torch": options.torch_python, "keras": options.keras_python}
    workers = [(name, Worker([python, WORK, "slices", name, str(options.images)]))
               for name, python in pythons.items() if python]  # fmt: skip
    found: dict[str, Any] = {name: {"versions": worker.ask("versions")[0], "rounds": []} for name, worker in workers}
    works = [("features", backbone) for backbone in WIDTHS]
    works += [("head", backbone, optimizer) for backbone in WIDTHS for optimizer in OPTIMIZERS]
    for number in range(options.rounds + 1):
        measured: dict[str, Any] = {name: {} for name, _ in workers}
        for work in works:
            for name, worker in workers[:: 1 if number % 2 else -1]:
                if name != "keras" or work[0] == "features":  # its `fit` trains heads and computes features at once
                    seconds, found[name]["peak"] = worker.ask(*work)
                    measured[name][" ".join(work)] = seconds
                    print(f"{name} {' '.join(work)}: {seconds}", file=sys.stderr, flush=True)
        for name, seconds in measured.items() if number else ():
            found[name]["rounds"].append(seconds)
    return found


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
    """Prints the extrapolated study, and the rates that were measured: median (lowest … highest)."""
    columns, ours = {}, None
    for name, work in found.items():
        study = pandas.DataFrame([extrapolate(name, seconds) for seconds in work["rounds"]])
        total = study.sum(axis=1)
        ours = total if ours is None else ours
        parts = study.median().map(duration).to_dict() | {"all": duration(total.median())}
        columns[LIBRARIES[name]] = parts | {"times as long": spread(total / ours), "memory in GB": work["peak"] / 1e9}
    print(pandas.DataFrame(columns).fillna("in every epoch").to_string(), "\n")
    rates = {
        work["versions"]: {
            f"{part}, {kind}s/s": spread(1 / pandas.Series([each[part][kind] for each in work["rounds"]]))
            for part, seconds in work["rounds"][0].items() for kind in seconds
        } for work in found.values()
    }  # fmt: skip
    print(pandas.DataFrame(rates).fillna("–").to_string(), "\n")


def spread(values: pandas.Series) -> str:
    """Returns median, lowest and highest."""
    return f"{values.median():,.3g} ({values.min():,.3g} … {values.max():,.3g})"


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
