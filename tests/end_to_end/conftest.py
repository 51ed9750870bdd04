"""Commands on small images, through `cli.main`."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alljax.cli import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUICKSTART = f"--config={CONFIGS / 'quickstart.py'}"
SMALL = [
    QUICKSTART, "--config.data.synthetic.images=48", "--config.data.synthetic.subjects=12",
    "--config.data.synthetic.image_size=48", "--config.preprocessing.image_size=48", "--config.model.stage=stage1",
    "--config.model.hidden=8", "--config.split.folds=2", "--config.train.epochs=2", "--config.train.batch_size=16",
    "--config.study.seeds=2", "--config.evaluation.resamples=100",
]  # fmt: skip

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]


def picture(seed: int = 0, mode: str = "RGB", format: str = "PNG", side: int = 40) -> bytes:
    """Returns an encoded square image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(content := io.BytesIO(), format)
    return content.getvalue()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of four subjects with two images each."""
    names = [f"{label}/{label}{subject}/{n}.png" for label in "ab" for subject in range(4) for n in range(2)]
    return write_files(tmp_path / "images", {name: picture(seed) for seed, name in enumerate(names)})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns exit code, standard output and standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(run: Run) -> Refused:
    """Runs a command with a user error; returns its one line, the last on standard error."""

    def call(*words: object) -> str:
        code, out, err = run(*words)
        assert code == 2, err
        assert not out
        [line] = [line for line in err.splitlines() if line.startswith("alljax: ")]
        assert err.rstrip().splitlines()[-1] == line
        return line

    return call


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two optimizers. Copy the folder to change it."""
    folder = tmp_path_factory.mktemp("end_to_end") / "study"
    assert main(["study", *SMALL, f"--workdir={folder}"]) == 0
    return folder
