"""The source distribution and the wheel contain all that alljax needs, and run in another folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = [f"--config.data.synthetic.{name}" for name in ("images=24", "subjects=8", "image_size=64")]
SMALL += ["--config.preprocessing.image_size=64", "--config.train.epochs=1", "--config.split.folds=2"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder), "--target"]
    subprocess.run([*build, "sdist"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-xf", *folder.glob("*.tar.gz"), "-C", folder], check=True)
    subprocess.run([*build, "wheel"], cwd=next(folder.glob("*/")), check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("alljax/")}
    listed = subprocess.run(["git", "ls-files", "alljax", "configs", "third_party"], cwd=ROOT, capture_output=True)
    expected = listed.stdout.decode().split()
    assert names == {name if name.startswith("alljax/") else f"alljax/{name}" for name in expected}


def test_quickstart_runs_from_the_wheel_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = run("-m", "alljax.cli", "study", "--config=quickstart", "--workdir=w", *SMALL)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w" / "report.html").is_file()
    assert run("-m", "alljax.cli", "configs", "copy", "table7/texture_svm").returncode == 0
    done = run("-c", "import alljax.config; alljax.config.load('texture_svm.py:toy'); import settings")
    assert done.stderr.endswith("No module named 'settings'\n"), "the modules of alljax are not top-level modules"
