"""What a weight file holds, for a person who asks."""

import os
from dataclasses import dataclass
from pathlib import Path

from alljax.errors import WeightsError
from alljax.models import backbones
from alljax.weights import conversion, formats, store
from alljax.weights.sources import Source


@dataclass(frozen=True)
class Description:
    """A weight file's contents.

    Attributes:
        path: the file.
        bytes: its size.
        sha256: its hash.
        format: its format, for people.
        tensors: name, shape and type of each tensor, in the file's order.
        notes: what was unwrapped, taken off a name or left out.
        backbone: the network whose names its tensors bear; empty where it is none of ours.
        family: what such a file is called, for people: ``"torchvision's VGG16"``; empty likewise.
        source: the known source it is by its hash, or None.
    """

    path: Path
    bytes: int
    sha256: str
    format: str
    tensors: tuple[tuple[str, tuple[int, ...], str], ...]
    notes: tuple[str, ...]
    backbone: str
    family: str
    source: Source | None


def describe(path: str | os.PathLike[str]) -> Description:
    """Reads a weight file and says what it is.

    Raises:
        WeightsError: see `readers.read`.
    """
    read = formats.load(path)
    sha256 = store.digest(read.path)
    backbone, family = "", ""
    for name in backbones.BACKBONES:
        try:
            found = conversion.recognize(read.tensors, name)
        except WeightsError:
            continue
        backbone, family = found.backbone, found.description
        break
    return Description(
        read.path,
        read.path.stat().st_size,
        sha256,
        read.format,
        tuple((name, tensor.shape, str(tensor.dtype)) for name, tensor in read.tensors.items()),
        read.notes,
        backbone,
        family,
        store.recognize(read.path, sha256),
    )
