"""One flipped bit in each cached file: named, computed again, the same results; a finished study reads no features."""

from pathlib import Path

import pytest
from end_to_end.conftest import SMALL, Run

from alljax import files


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 0x40
    path.write_bytes(data)


def test_flipped_bits_in_the_cache_do_not_change_results(
    images: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))
    study = ["study", *SMALL, f"--config.data.source={images}"]
    assert run(*study, f"--workdir={tmp_path / 'first'}")[0] == 0
    cached = [path for path in (tmp_path / "cache").glob("*/*") if path.suffix not in (".sha256", ".lock")]
    assert {path.parent.name for path in cached} == {"features", "inspections", "hashes", "self-checks"}
    for path in cached:
        flip_bit(path)
    code, _, err = run(*study, f"--workdir={tmp_path / 'second'}")
    assert code == 0
    assert all(f"{path} is damaged and not used; its content is computed again" in err for path in cached)
    results = [
        files.sha256(tmp_path / name / f"trials/efficientnet_lite0-{trial}/predictions.csv")
        for name in ("first", "second")
        for trial in ("adam", "rmsprop")
    ]
    assert results[:2] == results[2:]
    [features] = (tmp_path / "cache/features").glob("*.npy")
    flip_bit(features)
    code, _, err = run(*study, f"--workdir={tmp_path / 'second'}")
    assert code == 0
    assert "damaged" not in err
