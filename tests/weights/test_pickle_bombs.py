"""A pickle of a hundred bytes that builds a value larger than any memory is refused at once."""

from pathlib import Path

import pytest

from alljax.errors import WeightsError
from alljax.weights import readers

DOUBLED = b")" + b"2\x86" * 40  # a tuple of itself twice, forty times over


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
    """Without the check this hangs."""
    file = tmp_path / "bomb.ckpt"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="bomb"):
        readers.read(file)
