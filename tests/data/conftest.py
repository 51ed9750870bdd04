"""Small trees of images, as folders or zips."""

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from alljax.config import default_config


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """Returns an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(name: str, size: int = 12) -> bytes:
    """Returns a small image with random pixels in the format of its name."""
    pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (size, size, 3), np.uint8)
    return encode(Image.fromarray(pixels), Image.registered_extensions()[Path(name).suffix.lower()])


@pytest.fixture(name="picture")
def _picture() -> Callable[..., bytes]:
    return picture


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """plant(files, zipped, root) writes images, or the given bytes, at these paths into a folder or a zip."""

    def write(files: Iterable[str] | dict[str, bytes | None], zipped: bool = False, root: str = "source") -> Path:
        given = files if isinstance(files, dict) else dict.fromkeys(files)
        contents = {path: picture(path) if data is None else data for path, data in given.items()}
        if zipped:
            path = tmp_path / f"{root}.zip"
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in contents.items():
                    archive.writestr(name, data)
            return path
        for path, data in contents.items():
            target = tmp_path / root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return tmp_path / root

    return write


@pytest.fixture
def settings() -> Callable[..., SimpleNamespace]:
    """settings(source, **others) returns the `data` part of a config, with few and small generated images."""

    def select(source: object, **others: object) -> SimpleNamespace:
        data = default_config().data
        synthetic = SimpleNamespace(**{**data.synthetic, "subjects": 6, "images": 40, "image_size": 32})
        return SimpleNamespace(**{**data, "synthetic": synthetic, "source": str(source), **others})

    return select
