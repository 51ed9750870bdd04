"""How fast images are decoded and resized here, against tf.data and torch's DataLoader, and how fast names are read.

    python tests/benchmarks/data.py [IMAGES]

450 × 450 BMP files to 224 × 224 batches of 32, each way in a process of its own that has read the files once
before.  Five interleaved rounds; median images a second, its ratio to ours, peak memory in MB with worker
processes.  ``cells`` lie on black like C-NMC's, ``filled`` images have no black.  tf.data and torch are looked
for in the Python that runs this, and passed over aloud where they are not.  At the end 100,000 names in a zip
are indexed and split.  Figures of a shared machine say little, ratios more.
"""

import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

BATCH, SIDE, SIZE, ROUNDS = 32, 450, 224, 5
CORES = len(os.sched_getaffinity(0))
NAMES, SUBJECTS = 100_000, 500

WAYS = {
    "alljax, threads": None,
    "alljax, processes": None,
    "tf.data": "tensorflow",
    "torch, Pillow": "torch",
    "torch, interpolate": "torch",
}
"""Each way and the package it needs."""


def ours(folder: Path, antialias: bool, workers: int) -> Callable[[], Iterable[object]]:
    from alljax.data.dataset import Dataset, Record
    from alljax.data.loader import ImageReader, Sampler, load_batches

    paths = sorted(folder.glob("*.bmp"))
    records = tuple(Record(path.name, 0) for path in paths)
    dataset = Dataset("folder", ("cell",), records, lambda record: (folder / record.path).read_bytes())
    source = ImageReader(dataset, SIZE, "bilinear", antialias)
    once = Sampler(np.arange(len(paths)), BATCH)
    if not workers:
        return lambda: load_batches(source, once)
    many = Sampler(np.tile(np.arange(len(paths)), (10_000, 1)), BATCH)
    batches = load_batches(source, many, workers)  # starting processes takes a second: they stay

    def one_pass() -> Iterable[object]:
        for _ in range(4 * workers):  # batches prefetched while others were measured do not count
            next(batches)
        yield
        yield from (next(batches) for _ in range(once.steps_per_epoch))

    return one_pass


def tf_data(folder: Path, antialias: bool) -> Callable[[], Iterable[object]]:
    import tensorflow as tf

    def read(path: object) -> object:
        return tf.image.resize(tf.io.decode_bmp(tf.io.read_file(path), 3), (SIZE, SIZE), antialias=antialias)

    paths = [str(path) for path in sorted(folder.glob("*.bmp"))]
    ahead = tf.data.AUTOTUNE
    return lambda: tf.data.Dataset.from_tensor_slices(paths).map(read, ahead).batch(BATCH).prefetch(ahead)


def torch_loader(folder: Path, antialias: bool, pillow: bool) -> Callable[[], Iterable[object]]:
    import torch

    class Files(torch.utils.data.Dataset):
        paths = sorted(folder.glob("*.bmp"))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            image = Image.open(self.paths[index]).convert("RGB")
            if pillow:  # torchvision's Resize of a Pillow image
                return torch.from_numpy(np.array(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # and of a tensor
            return torch.nn.functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=antialias)[0]

    loader = torch.utils.data.DataLoader(Files(), BATCH, num_workers=CORES, persistent_workers=True)
    return lambda: loader


def serve(way: str, folder: Path, antialias: bool) -> None:
    """Reads all files once a line of input, and answers with images a second and the peak memory so far."""
    makers = {
        "alljax, threads": lambda: ours(folder, antialias, 0),
        "alljax, processes": lambda: ours(folder, antialias, CORES),
        "tf.data": lambda: tf_data(folder, antialias),
        "torch, Pillow": lambda: torch_loader(folder, antialias, pillow=True),
        "torch, interpolate": lambda: torch_loader(folder, antialias, pillow=False),
    }
    batches = makers[way]()
    for _ in sys.stdin:
        start, images = time.perf_counter(), 0
        for batch in batches():
            if batch is None:
                start = time.perf_counter()
            else:
                images += len(getattr(batch, "images", batch))
        print(images / (time.perf_counter() - start), peak_memory(), flush=True)


def peak_memory() -> float:
    """Returns MB: the most this process has held, and the most each of its running children has."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = [line for child in children for line in Path(f"/proc/{child}/status").read_text().splitlines()]
    return (own + sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))) / 1024


def compare(folder: Path, antialias: bool) -> None:
    ways = [way for way, package in WAYS.items() if package is None or importlib.util.find_spec(package)]
    if not antialias:
        ways = [way for way in ways if way != "torch, Pillow"]  # Pillow always antialiases
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def start(way: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, __file__, "serve", way, str(folder), str(int(antialias))]
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=quiet, text=True, env=environment)

    running = {way: start(way) for way in ways}
    measured: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, process in running.items():
            assert process.stdin
            assert process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            rate, memory = map(float, process.stdout.readline().split())
            time.sleep(0.5)  # processes that stay read ahead now
            if number:  # the first round fills caches and starts processes
                measured[way].append((rate, memory))
    for process in running.values():
        process.communicate()
    rates = {way: statistics.median(rate for rate, _ in each) for way, each in measured.items()}
    for way, rate in rates.items():
        ratio, memory = rates["alljax, threads"] / rate, measured[way][-1][1]
        spread = f"{min(measured[way])[0]:,.0f} … {max(measured[way])[0]:,.0f}"
        print(f"  {way:<20} {rate:8,.0f} images/s ({spread:>15})   ours is {ratio:5.2f} ×   {memory:7,.0f} MB")


def draw(folder: Path, images: int, filled: bool) -> None:
    from alljax.data import synthetic

    random = np.random.default_rng(0)
    for number in range(images):
        pixels = synthetic.render_cell(0, str(number % 20), number // 20, 1, SIDE)
        if filled:
            pixels = np.where(pixels.any(-1, keepdims=True), pixels, random.integers(1, 256, pixels.shape, np.uint8))
        Image.fromarray(pixels).save(folder / f"{number:05}.bmp")


def index(source: Path) -> None:
    """Opens a source of many names and splits it by person; prints seconds and MB."""
    start = time.perf_counter()
    import hashlib

    from alljax import config as configs
    from alljax.data import splits
    from alljax.data.readers import open_dataset

    config = configs.vary(configs.default_config(), {"data.source": str(source)})
    dataset = open_dataset(config.data)
    people = [record.subject for record in dataset.records]
    digests = [hashlib.sha256(record.path.encode()).hexdigest() for record in dataset.records]
    drawn = splits.make_splits(
        "subject_kfold", dataset.records, people, digests, classes=dataset.classes, folds=5, repeats=1, seed=0,
        test_fraction=0.2, stratified=True, test_subset="", validation=0.1,
    )  # fmt: skip
    assert sum(len(split.test) for split in drawn) == len(dataset.records) == NAMES
    print(time.perf_counter() - start, peak_memory(), flush=True)


def many_names(folder: Path) -> None:
    source = folder / "names.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for number in range(NAMES):
            subject = number % SUBJECTS
            archive.writestr(f"{('all', 'hem')[subject % 3 == 0]}/{subject}/{number}.bmp", b"")
    done = subprocess.run(
        [sys.executable, __file__, "index", str(source)], capture_output=True, text=True, check=True
    ).stdout
    seconds, memory = map(float, done.split())
    print(f"{NAMES:,} names indexed and split: {seconds:.1f} s, {memory:,.0f} MB (asked for: 10 s, 500 MB)")


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 960
    for package in sorted({package for package in WAYS.values() if package}):
        if not importlib.util.find_spec(package):
            print(f"not compared: {package} is not installed in {sys.prefix}")
    print(f"{images} images, {CORES} cores")
    with tempfile.TemporaryDirectory() as place:
        for kind in ("trials", "filled"):
            folder = Path(place) / kind
            folder.mkdir()
            draw(folder, images, kind == "filled")
            for antialias in (True, False):
                print(f"{kind}, {'antialiased' if antialias else 'not antialiased'}")
                compare(folder, antialias)
        many_names(Path(place))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", way, folder, antialias]:
            serve(way, Path(folder), bool(int(antialias)))
        case ["index", source]:
            index(Path(source))
        case _:
            main()
