"""Speed of decoding and resizing, compared with tf.data and torch's DataLoader.

    .venv/bin/python tests/benchmarks/data.py [IMAGES]

450 × 450 BMP files to 224 × 224 batches of 32, each method in a process that has read the files once before.  Five
interleaved rounds; median images per second, its ratio to alljax with threads, peak memory in MB with worker processes.
``cells`` are on black like C-NMC's, ``filled`` images have no black.  tf.data and torch are compared if the Python that
runs this has them.
"""

import importlib.util
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import rounds
from PIL import Image

BATCH, SIDE, SIZE, ROUNDS = 32, 450, 224, 5
CORES = len(os.sched_getaffinity(0))


def ours(folder: Path, antialias: bool) -> Callable[[], Iterable[object]]:
    from alljax.data.dataset import Dataset, Record
    from alljax.data.loader import ImageReader, Sampler, load_batches

    paths = sorted(folder.glob("*.bmp"))
    records = tuple(Record(path.name, 0) for path in paths)
    dataset = Dataset("folder", ("cell",), records, lambda record: (folder / record.path).read_bytes())
    source = ImageReader(dataset, SIZE, "bilinear", antialias)
    once = Sampler(np.arange(len(paths)), BATCH)
    return lambda: load_batches(source, once)


def tf_data(folder: Path, antialias: bool) -> Callable[[], Iterable[object]]:
    import tensorflow as tf

    def read(path: object) -> object:
        return tf.image.resize(tf.io.decode_bmp(tf.io.read_file(path), 3), (SIZE, SIZE), antialias=antialias)

    paths = [str(path) for path in sorted(folder.glob("*.bmp"))]
    ahead = tf.data.AUTOTUNE
    return lambda: tf.data.Dataset.from_tensor_slices(paths).map(read, ahead).batch(BATCH).prefetch(ahead)


def torch_loader(folder: Path, antialias: bool) -> Callable[[], Iterable[object]]:
    import torch

    class Files(torch.utils.data.Dataset):
        paths = sorted(folder.glob("*.bmp"))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            image = Image.open(self.paths[index]).convert("RGB")
            resized = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)  # as torchvision; always antialiases
            return torch.from_numpy(np.array(resized))

    loader = torch.utils.data.DataLoader(Files(), BATCH, num_workers=CORES, persistent_workers=True)
    return lambda: loader


METHODS: dict[str, tuple[str, Callable[[Path, bool], Callable[[], Iterable[object]]]]] = {
    "alljax": ("alljax", ours),
    "tf.data": ("tensorflow", tf_data),
    "torch": ("torch", torch_loader),
}
"""Each method: the package it needs, and what makes a function that reads all files once."""


def serve(method: str, folder: Path, antialias: bool) -> None:
    """Reads all files, and answers with images per second and the peak memory so far."""
    batches = METHODS[method][1](folder, antialias)

    def work() -> tuple[float, float]:
        start, images = time.perf_counter(), 0
        for batch in batches():
            images += len(getattr(batch, "images", batch))
        return images / (time.perf_counter() - start), peak_memory()

    rounds.serve(work)


def peak_memory() -> float:
    """Returns MB: the most this process has held, and the most each of its running children has."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = [line for child in children for line in Path(f"/proc/{child}/status").read_text().splitlines()]
    return (own + sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))) / 1024


def compare(folder: Path, antialias: bool) -> None:
    command = [sys.executable, __file__, "serve"]
    workers = {
        method: rounds.Worker([*command, method, folder, str(int(antialias))], OMP_NUM_THREADS="1")
        for method, (package, _) in METHODS.items()
        if importlib.util.find_spec(package) and (antialias or method != "torch")
    }
    measured: dict[str, list[tuple[float, float]]] = {method: [] for method in workers}
    for _ in range(ROUNDS + 1):
        for method, worker in workers.items():
            measured[method].append(worker.ask())
    ours = 0.0
    for method, found in measured.items():
        rates, memory = [rate for rate, _ in found[1:]], found[-1][1]  # the first round fills caches
        rate = statistics.median(rates)
        ours = ours or rate
        spread = f"{min(rates):,.0f} … {max(rates):,.0f}"
        print(f"  {method:<20} {rate:8,.0f} images/s ({spread:>15})   ours is {ours / rate:5.2f} ×   {memory:7,.0f} MB")


def draw(folder: Path, images: int, filled: bool) -> None:
    from alljax.data import synthetic

    random = np.random.default_rng(0)
    for number in range(images):
        pixels = synthetic.render_cell(0, str(number % 20), number // 20, 1, SIDE)
        if filled:
            pixels = np.where(pixels.any(-1, keepdims=True), pixels, random.integers(1, 256, pixels.shape, np.uint8))
        Image.fromarray(pixels).save(folder / f"{number:05}.bmp")


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 960
    print(f"{images} images, {CORES} cores")
    with tempfile.TemporaryDirectory() as place:
        for kind in ("cells", "filled"):
            folder = Path(place) / kind
            folder.mkdir()
            draw(folder, images, kind == "filled")
            for antialias in (True, False):
                print(f"{kind}, {'antialiased' if antialias else 'not antialiased'}")
                compare(folder, antialias)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", method, folder, antialias]:
            serve(method, Path(folder), bool(int(antialias)))
        case _:
            main()
