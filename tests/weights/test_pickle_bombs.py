"""A small pickle that builds a value larger than any memory is refused at once."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import containers
import pytest
from containers import Made, Name, Persistent, Zip, dumps, storage, tensor, write_legacy

DOUBLED = b")" + b"2\x86" * 40  # a tuple of itself twice, forty times over


READ = """
import sys
from alljax.errors import WeightsError
from alljax.weights import readers
for path in sys.argv[1:]:
    print(path, flush=True)
    try:
        readers.read(path)
    except WeightsError:
        continue
    sys.exit("was read")
"""


def refused_at_once(*paths: Path) -> None:
    """Reads in a process of its own, for one that hashes or prints a bomb can only be killed."""
    read = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, timeout=20, check=False)
    assert read.returncode == 0, read.stdout + read.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cnumpy\ndtype\n" + DOUBLED + b"\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a" + DOUBLED + b"\x86R.",
        b"\x80\x02}X\x01\x00\x00\x00a" + DOUBLED + b"s.",
        b"\x80\x02}" + DOUBLED + b"K\x01s.",
        b"\x80\x02" + DOUBLED + b".",
    ],
    ids=["type", "codec", "value", "key", "top"],
)
def test_refused_at_once(content: bytes, tmp_path: Path) -> None:
    refused_at_once(containers.write_bare(tmp_path / "bomb.ckpt", content))


EMPTY = Name("collections.OrderedDict")
TORCH: dict[str, Callable[[Any], Any]] = {
    "persistent id": lambda bomb: Persistent(bomb),
    "storage": lambda bomb: tensor(Persistent(("storage", bomb, bomb, bomb, bomb))),
    "offset": lambda bomb: tensor(storage(), bomb),
    "shape": lambda bomb: tensor(storage(), 0, bomb, bomb),
    "extent": lambda bomb: tensor(storage(), 0, (bomb, bomb)),
    "state": lambda bomb: Made(Name("torch.FloatTensor"), (), bomb),
    "metadata": lambda bomb: tensor(storage(), 0, (2, 3), (3, 1), bomb),
    "arguments": lambda bomb: Made(EMPTY, (bomb, bomb)),
    "pairs": lambda bomb: Made(EMPTY, (bomb,)),
    "entry": lambda bomb: bomb,
}


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_torch_refuses_them_wherever_they_stand(container: str, tmp_path: Path) -> None:
    # pickle writes each tuple once and refers to it the second time.
    bomb: tuple[Any, ...] = ()
    for _ in range(40):
        bomb = (bomb, bomb)
    write = containers.CONTAINERS[container]
    refused_at_once(*(write(tmp_path / place, dumps({"a": value(bomb)})) for place, value in TORCH.items()))


def test_legacy_storage_key(tmp_path: Path) -> None:
    whole = write_legacy(tmp_path / "F.pth", dumps({"a": tensor(storage(legacy=True))}), {"0": (6, bytes(24))})
    keys = pickle.dumps(["0"], 2)
    assert whole.read_bytes().count(keys) == 1
    whole.write_bytes(whole.read_bytes().replace(keys, b"\x80\x02]" + DOUBLED + b"a."))
    refused_at_once(whole)


@pytest.mark.parametrize("million", [b"\x8a\x08" + b"\x7f" * 8, b"\x8b\x00\x00\x01\x00" + b"\x7f" * 65536])
def test_shape_whose_product_never_ends(million: bytes, tmp_path: Path) -> None:
    """A million large factors in two megabytes, or fewer that are larger."""
    factors = b"(" + million + b"q\x63" + b"h\x63" * 1_000_000 + b"t"
    view = dumps({"a": tensor(storage(), 0, "SHAPE", "SHAPE")})
    text = b"X\x05\x00\x00\x00SHAPE"
    assert view.count(text) == 1
    refused_at_once(Zip(view.replace(text, factors), {"0": bytes(24)}).write(tmp_path / "F.pth"))
