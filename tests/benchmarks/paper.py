"""The whole study of the paper at its true size, and the same work as people do it today.

    .venv/bin/python tests/benchmarks/paper.py --keras-python=/tmp/keras/bin/python --torch-python=/tmp/torch/bin/python

The other libraries live in environments of their own, and are passed over aloud where none is named:

    python3.11 -m venv /tmp/keras && /tmp/keras/bin/pip install keras==3.15.1 tensorflow-cpu==2.21.0
    python3.11 -m venv /tmp/torch && /tmp/torch/bin/pip install torch==2.13.0 numpy

Five parts, each can be chosen alone (``--parts=heads,flatten``):

    study    `alljax study --config=configs/paper.py:small` from end to end: the 10,661 true names and subjects with
             generated images of 224 pixels, split as the paper did.  Every --config.key=value goes to it too.
    heads    the 32 heads of VGG16 and ResNet50 at their true widths, on features made up for it: what a study does
             once it has features.
    flatten  heads on 25,088 and 100,352 features in a mapped file: two epochs, multiplied out.
    keras    Keras on TensorFlow, the frozen backbone inside `fit`: a slice, multiplied out.
    torch    PyTorch, features once and one fit a cell: a slice, multiplied out.

The last two are measured beside the same slice of alljax, in interleaved rounds.  Images lie in memory for all three,
and nobody's reading is counted.  Weights are drawn: speed does not depend on them.  Let nothing else compute
meanwhile: PyTorch's and TensorFlow's threads then wait for each other, and the ratios flatter alljax.  All parts take
about three quarters of an hour on two cores.  Progress goes to standard error, tables in Markdown to standard output,
all numbers to --out.  Linux only: memory is read from /proc.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from generated_cnmc import write_cells
from paper_work import BATCH, CELLS, EPOCHS, OPTIMIZERS, TRAINED, WIDTHS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PARTS = ("study", "heads", "flatten", "keras", "torch")
BUDGETS = (10, 20, 30, 40, 50, 60, 80, 100)
FLATTENED = (25_088, 100_352)
MANIFEST = ROOT.parent / "shared" / "cnmc" / "manifest.csv"
LOOK = 0.05
"""Seconds between two looks at a process's memory."""
PHASES = (
    ("start, look at the images", "look at the images "),
    ("read them for the backbone", "decode "),
    ("features of two stages", "features "),
    ("heads", "heads "),
)
"""What a study does and the beginning of the line that it prints afterwards."""
NAMES = {"vgg16": "VGG16", "resnet50": "ResNet50"}
LIBRARIES = {
    "alljax": "alljax",
    "torch": "PyTorch, cached features, a fit a cell",
    "keras": "Keras, backbone inside `fit`",
}


@dataclass
class Ran:
    """What a process said and held.

    Attributes:
        began: when it was started, in seconds since 1970, as files are dated.
        ended: when it ended.
        lines: each with the time at which it was printed.
        samples: twenty times a second: the time of the last look, the most it held since then, and what of that it
            holds now as its own (not a mapped file, which the system takes back when others need memory), in bytes.
    """

    began: float
    ended: float = 0.0
    lines: list[tuple[float, str]] = field(default_factory=list)
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def peak(self, *windows: tuple[float, float]) -> dict[str, int]:
        """Returns the most that was held between two times (none: ever), mapped files with it and without."""
        within = [
            sample for sample in self.samples if not windows or any(start <= sample[0] <= end for start, end in windows)
        ]
        most = {"peak": max((held for _, held, _ in within), default=0)}
        return most | {"own": max((own for *_, own in within), default=0)}

    def said(self, key: str) -> list[tuple[float, dict[str, Any]]]:
        """Returns the lines of JSON with this key, and when they were printed."""
        parsed = [(when, json.loads(line)) for when, line in self.lines if line.startswith("{")]
        return [(when, values) for when, values in parsed if key in values]


def watch(command: Sequence[str | Path], together: bool = False, **environment: str) -> Ran:
    """Runs a process and watches its memory.

    Args:
        command: what is run.
        together: whether its standard error is read as its standard output is.
        environment: added to ours.
    """
    tell(" ".join(map(str, command)))
    ran = Ran(time.time())
    error = subprocess.STDOUT if together else None
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=error, text=True, env=os.environ | environment, cwd=ROOT
    ) as process:
        sampler = threading.Thread(target=sample, args=(process, ran.samples), daemon=True)
        sampler.start()
        assert process.stdout
        for line in process.stdout:
            ran.lines.append((time.time(), line.rstrip()))
            tell(f"  {line.rstrip()}")
        code = process.wait()
        ran.ended = time.time()
        sampler.join()
    if code:
        sys.exit(f"{command[0]} ended with {code}; what it said stands above")
    return ran


def sample(process: "subprocess.Popen[str]", samples: list[tuple[float, int, int]]) -> None:
    """Reads, until a process ends, the most it held since the last look, and lets the kernel begin anew."""
    place, last = Path("/proc") / str(process.pid), time.time()
    while process.poll() is None:
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            held, *own = (1024 * int(status[key].split()[0]) for key in ("VmHWM", "RssAnon", "RssShmem"))
            (place / "clear_refs").write_text("5")
        except (OSError, KeyError):  # it has just ended
            return
        samples.append((last, held, sum(own)))
        last = time.time()
        time.sleep(LOOK)


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the whole study by its command line, nothing computed before."""
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="alljax-paper-") as place:
        folder, cache, images = Path(place) / "study", Path(place) / "cache", Path(place) / "images"
        write_cells(options.manifest, images)
        ran = watch(
            [Path(sys.executable).with_name("alljax"), "study", f"--config={options.study_config}",
             f"--workdir={folder}", f"--config.data.source={images}", *options.overrides],
            together=True, ALLJAX_CACHE_DIR=str(cache),
        )  # fmt: skip
        if options.keep:
            shutil.copytree(folder, options.keep, dirs_exist_ok=True)
        metrics = json.loads((folder / "metrics.json").read_text())
        with (folder / "split.csv").open(newline="") as file:
            sides = Counter(row["split"] for row in csv.DictReader(file))
        written = [(first, last) for first, last in map(dates, sorted((folder / "trials").iterdir()))]
        stored = {
            name: sum(path.stat().st_size for path in each.rglob("*") if path.is_file())
            for name, each in (("study", folder), ("features", cache))
        } | {"report": (folder / "report.html").stat().st_size}
    phases, before = {}, ran.began
    for name, beginning in PHASES:
        ends = [when for when, line in ran.lines if line.startswith(beginning) and "computed before" not in line]
        if not ends:
            continue
        phases[name] = {"seconds": ends[-1] - before} | ran.peak((before, ends[-1]))
        before = ends[-1]
    evaluation = sum(last - first for first, last in written)
    phases["heads"]["seconds"] -= evaluation
    phases["their evaluation and files"] = {"seconds": evaluation} | ran.peak(*written)
    phases["report"] = {"seconds": ran.ended - before} | ran.peak((before, ran.ended))
    return {
        "images": metrics["dataset"]["images"], "image_size": metrics["dataset"]["image_size"][0], "sides": dict(sides),
        "trials": len(metrics["trials"]),
        "missing": metrics.get("missing", []), "failed": metrics.get("failed", {}), "phases": phases, "bytes": stored,
        "seconds": ran.ended - ran.began, "said": [line for _, line in ran.lines],
    } | ran.peak()  # fmt: skip


def dates(cell: Path) -> tuple[float, float]:
    """Returns when the first and the last file of a cell's folder were written."""
    found = [path.stat().st_mtime for path in cell.rglob("*") if path.is_file()]
    return min(found), max(found)


def show_study(found: dict[str, Any]) -> None:
    """Prints the table of `study`."""
    sides = " and ".join(f"{count:,} {side}" for side, count in found["sides"].items())
    images = f"{found['images']:,} images of {found['image_size']} pixels"
    print(f"### `alljax study`: {found['trials']} cells, {images}, {sides}\n")
    rows = [(name, span(each["seconds"]), size(each["peak"])) for name, each in found["phases"].items()]
    rows.append(("**all**", f"**{span(found['seconds'])}**", f"**{size(found['peak'])}**"))
    table(("phase", "time", "most memory"), rows)
    print(
        f"On disk: the study {size(found['bytes']['study'])}, features {size(found['bytes']['features'])}, "
        f"report.html {found['bytes']['report'] / 1e6:.1f} MB.\n"
    )


def heads(options: argparse.Namespace) -> dict[str, Any]:
    """Trains the 32 heads of both backbones."""
    given = {"config": "configs/paper.py"}
    ran = watch([sys.executable, HERE / "paper_work.py", "heads", json.dumps(given)])
    curves = []
    for when, values in ran.said("curve"):
        curves.append(values | ran.peak((when - values["seconds"], when)))
    return {
        "images": ran.said("images")[0][1]["images"],
        "heads": [values for _, values in ran.said("trial")],
        "curves": curves,
        "seconds": sum(curve["seconds"] for curve in curves),
        "process_seconds": ran.ended - ran.began,
    } | ran.peak()


def show_heads(found: dict[str, Any]) -> None:
    """Prints the table of `heads`."""
    print(f"### All {len(found['heads'])} head runs, made-up features, one seed, memory of the process\n")
    rows = [
        (curve["curve"].rpartition("-")[0], f"{curve['width']:,}", span(curve["seconds"]), size(curve["peak"]))
        for curve in found["curves"]
    ]
    rows.append((f"all, {found['images']['trained']:,} training images, {found['images']['tested']:,} test images", "",
                 span(found["seconds"]), size(found["peak"])))  # fmt: skip
    table(("run of 100 epochs, eight heads", "features", "time", "most memory"), rows)


def flatten(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Trains heads on flattened features, which are never in memory at once."""
    found = []
    for width in options.widths:
        needed, free = 4 * CELLS * width, shutil.disk_usage(options.scratch).free
        tell(
            f"{width:,} features: {needed / 1e9:.1f} GB are written to {options.scratch}, {free / 1e9:.0f} GB are free"
        )
        if free < needed + 1e9:
            sys.exit(
                f"too little room in {options.scratch} for {needed / 1e9:.1f} GB; name another folder with --scratch"
            )
        with tempfile.TemporaryDirectory(dir=options.scratch, prefix="alljax-paper-") as folder:
            given = {"config": "configs/paper.py", "width": width}
            command = [sys.executable, HERE / "paper_work.py", "flatten", json.dumps(given)]
            ran = watch(command, ALLJAX_CACHE_DIR=folder)
        (written, file), curves = ran.said("written")[0], []
        for when, values in ran.said("curve"):
            curves.append(values | ran.peak((when - sum(values["epochs"]), when)))
        multiplied = sum(first + (BUDGETS[-1] - 1) * later for first, later in (curve["epochs"] for curve in curves))
        writing = {"bytes": file["bytes"], "seconds": file["seconds"]} | ran.peak((ran.began, written))
        found.append({"width": width, "file": writing, "curves": curves, "multiplied_seconds": multiplied} | ran.peak())
    return found


def show_flatten(found: list[dict[str, Any]]) -> None:
    """Prints the table of `flatten`."""
    steps = found[0]["curves"][0]["steps"]
    print(
        f"### Flattened features from disk: {steps} steps (2 epochs) of each optimizer, multiplied out to 100 epochs\n"
    )
    rows = []
    for each in found:
        for curve in each["curves"]:
            name = curve["curve"].rpartition("-")[2]
            rows.append((f"{each['width']:,}, {name}", size(each["file"]["bytes"]), *map(span, curve["epochs"]),
                         span(curve["epochs"][0] + (BUDGETS[-1] - 1) * curve["epochs"][1]), size(curve["own"]),
                         size(curve["peak"])))  # fmt: skip
    table(
        ("features, optimizer", "file", "first epoch, nothing cached", "second epoch", "100 epochs, multiplied out",
         "most memory", "with mapped pages"), rows,
    )  # fmt: skip
    total = sum(each["multiplied_seconds"] for each in found)
    print(f"All of them: {span(total)}, multiplied out.\n")


class Library:
    """A process that does slices of the work on request."""

    def __init__(self, name: str, python: Path, images: int) -> None:
        """Starts it."""
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        command = [str(python), str(HERE / "paper_work.py"), name, json.dumps({"images": images})]
        self.name, self._log = name, tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._log, text=True, env=os.environ | quiet, cwd=ROOT
        )
        self.versions = self._answer()["versions"]

    def does(self, work: tuple[Any, ...]) -> bool:
        """Says whether this is work of its own: Keras's `fit` does heads and features at once."""
        return self.name != "keras" or work[0] == "features"

    def ask(self, work: tuple[Any, ...]) -> dict[str, Any]:
        """Does a slice."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            self._log.seek(0)
            sys.exit(f"{self.name} has ended: {self._log.read()[-2000:]}")
        return json.loads(line)


def compare(libraries: dict[str, Path], images: int, rounds: int) -> dict[str, Any]:
    """Measures slices in interleaved rounds, the order turned round each time; the first round warms up.

    Returns:
        Versions, peak memory, seconds of each slice a round, and seconds of the whole a round.
    """
    processes = [Library(name, python, images) for name, python in libraries.items()]
    works = [("features", backbone) for backbone in WIDTHS]
    works += [("head", width, optimizer) for width in WIDTHS.values() for optimizer in OPTIMIZERS]
    measured: dict[str, dict[str, list[dict[str, float]]]] = {each.name: {} for each in processes}
    peaks = {}
    for number in range(rounds + 1):
        for work in works:
            for process in processes[:: 1 if number % 2 else -1]:
                if process.does(work):
                    answer = process.ask(work)
                    peaks[process.name] = answer["peak"]
                    tell(f"round {number} of {rounds}: {process.name} {work} {answer['seconds']}, load {load()}")
                    if number:
                        measured[process.name].setdefault(" ".join(map(str, work)), []).append(answer["seconds"])
    for process in processes:
        process.close()
    whole = {
        name: [multiplied(name, {work: found[number] for work, found in each.items()}) for number in range(rounds)]
        for name, each in measured.items()
    }
    versions = {each.name: each.versions for each in processes}
    return {"versions": versions, "images": images, "peak": peaks, "slices": measured, "whole": whole}


def multiplied(library: str, seconds: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns the seconds that the parts of the whole study take, from those of one round's slices."""
    parts = {}
    for backbone, width in WIDTHS.items():
        image = seconds[f"features {backbone}"]
        if library == "keras":  # every epoch sees every image, those of the test too
            epoch = TRAINED * image["an image"] + (CELLS - TRAINED) * image["a validation image"]
            parts[f"{backbone} heads"] = len(OPTIMIZERS) * sum(BUDGETS) * epoch
        else:
            epochs = BUDGETS[-1] if library == "alljax" else sum(BUDGETS)
            parts[f"{backbone} features"] = CELLS * image["an image"]
            parts[f"{backbone} heads"] = sum(
                epochs * seconds[f"head {width} {each}"]["an epoch"] for each in OPTIMIZERS
            )
    return parts


def show_compared(found: dict[str, Any]) -> None:
    """Prints the tables of `compare`."""
    whole, names = found["whole"], list(found["whole"])
    totals = {name: [sum(each.values()) for each in whole[name]] for name in names}
    print("### The paper's 32 cells, multiplied out from slices\n")
    rows = []
    for backbone, title in NAMES.items():
        for part, what in (("features", f"features of {CELLS:,} images"), ("heads", "its 16 cells")):
            medians = [middle(each.get(f"{backbone} {part}") for each in whole[name]) for name in names]
            rows.append((f"{title}: {what}", *("in every epoch" if each is None else span(each) for each in medians)))
    rows.append(("all 32 cells", *(span(statistics.median(totals[name])) for name in names)))
    heads_only = {
        name: [sum(seconds for part, seconds in each.items() if part.endswith("heads")) for each in whole[name]]
        for name in names
    }

    def beside(seconds: dict[str, list[float]], name: str) -> str:
        if name == "alljax":
            return "1 ×"
        ratios = [theirs / ours for theirs, ours in zip(seconds[name], seconds["alljax"], strict=True)]
        return spread(ratios, "×")

    rows.append(("beside alljax", *(beside(totals, name) for name in names)))
    apart = ("–" if name == "keras" else beside(heads_only, name) for name in names)
    rows.append(("beside alljax, heads alone", *apart))
    rows.append(("most memory", *(size(found["peak"][name]) for name in names)))
    table(("", *(LIBRARIES[name] for name in names)), rows)

    print(f"Measured on {found['images']} images and {EPOCHS} epochs of a head; median (least … most):\n")
    works = dict.fromkeys(work for name in names for work in found["slices"][name])
    rows = []
    for work in works:
        for kind in dict.fromkeys(kind for name in names for kind in found["slices"][name].get(work, [{}])[0]):
            unit = "epochs/s" if work.startswith("head") else "images/s"
            cells = [[1 / each[kind] for each in found["slices"][name].get(work, []) if kind in each] for name in names]
            label = f"{work}, {kind}" if "validation" in kind else work
            rows.append((label, *(spread(rates, unit) if rates else "–" for rates in cells)))
    table(("", *(found["versions"][name] for name in names)), rows)


def middle(values: Iterable[float | None]) -> float | None:
    """Returns the median, or None where there is nothing."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def spread(values: Sequence[float], unit: str) -> str:
    """Returns median, least and most."""
    digits = 0 if statistics.median(values) >= 100 else 1 if statistics.median(values) >= 10 else 2
    median, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} {unit} ({least} … {most})"


def span(seconds: float) -> str:
    """Returns a time as people say it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def size(count: float) -> str:
    """Returns bytes as people say them."""
    return f"{count / 1e9:.2f} GB"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints Markdown."""
    print(f"| {' | '.join(header)} |\n|---|{'---:|' * (len(header) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def tell(line: str) -> None:
    """Prints progress."""
    print(line, file=sys.stderr, flush=True)


def load() -> float:
    """Returns how many processes want to run, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--parts", default=",".join(PARTS), help="some of them, joined by commas; default: %(default)s")
    add("--keras-python", type=Path, metavar="PATH", help="a Python that has keras and tensorflow")
    add("--torch-python", type=Path, metavar="PATH", help="a Python that has torch")
    add("--manifest", type=Path, default=MANIFEST, help="names, subjects and hashes of C-NMC; default: %(default)s")
    add("--study-config", default="configs/paper.py:small", help="of part study; default: %(default)s")
    add("--keep", type=Path, metavar="DIR", help="copy the folder of part study there")
    add("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="for large files; default: %(default)s")
    add("--widths", default=",".join(map(str, FLATTENED)), help="of part flatten; default: %(default)s")
    add("--images", type=int, default=64, help="in a slice, a multiple of 32; default: %(default)s")
    add("--rounds", type=int, default=5, help="of keras and torch; default: %(default)s")
    add("--out", type=Path, metavar="FILE", help="all numbers, as JSON")
    options, options.overrides = parser.parse_known_args()
    options.parts, options.widths = options.parts.split(","), list(map(int, options.widths.split(",")))
    options.manifest = options.manifest.resolve()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if unknown := [word for word in options.overrides if not word.startswith("--config.")]:
        parser.error(f"unknown argument {unknown[0]}")
    if options.images % BATCH or options.images < BATCH or options.rounds < 1:
        parser.error(f"--images takes a multiple of {BATCH}, --rounds at least 1")
    if not options.manifest.is_file() and "study" in options.parts:
        parser.error(f"no {options.manifest}; name the list of C-NMC's files with --manifest")
    return options


def main() -> None:
    """Does the parts that are named, prints their tables and writes all numbers."""
    options = arguments()
    cpu = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    machine = f"{len(os.sched_getaffinity(0))} cores of {cpu or platform.machine()}, {platform.system()}"
    found: dict[str, Any] = {"machine": machine, "load": {}}
    print(f"{machine}, {time.strftime('%Y-%m-%d')}\n", flush=True)

    def do(part: str, work: Callable[[], Any], show: Callable[[Any], None]) -> None:
        before = load()
        tell(f"{part}, load {before}")
        found[part] = work()
        found["load"][part] = before, load()
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")
        show(found[part])

    for part, work, show in (
        ("study", study, show_study),
        ("heads", heads, show_heads),
        ("flatten", flatten, show_flatten),
    ):
        if part in options.parts:
            do(part, partial(work, options), show)
    libraries = {"alljax": Path(sys.executable)}
    for name in ("torch", "keras"):
        python = getattr(options, f"{name}_python")
        if name in options.parts and python is None:
            print(f"Not compared with {LIBRARIES[name]}: no --{name}-python (see --help).\n", flush=True)
        elif name in options.parts:
            libraries[name] = python
    if len(libraries) > 1:
        do("compared", partial(compare, libraries, options.images, options.rounds), show_compared)
    loads = ", ".join(f"{part} {before} and {after}" for part, (before, after) in found["load"].items())
    print(f"Processes that wanted to run, ours too, before and after: {loads}.")


if __name__ == "__main__":
    main()
