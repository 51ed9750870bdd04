"""Cached images equal decoded ones, and are cached where they fit."""

from pathlib import Path

import jax
import numpy as np
import pytest

from alljax import files
from alljax.data import loader, synthetic
from alljax.data.loader import ImageReader, Sampler, load_batches
from alljax.errors import ConfigError


class CountingReader(ImageReader):
    """Counts the decoded images."""

    def take(self, rows, mask):
        self.__dict__["decoded"] = self.__dict__.get("decoded", 0) + int(mask.sum())
        return super().take(rows, mask)


@pytest.mark.parametrize("memory", ["host", "device"])
def test_batches_are_equal_and_decoded_once(memory: str) -> None:
    reader = CountingReader(synthetic.read_synthetic(4, 23, 40, 1), 16)
    rows = np.random.default_rng(0).permuted(np.tile(np.arange(23), (3, 1)), axis=1)[:, :19]
    sampler = Sampler(rows, 4)
    expected = list(load_batches(reader, sampler))
    reader.__dict__["decoded"] = 0
    cached = loader.cache_images(memory, reader)
    with jax.transfer_guard("disallow"):
        batches = list(load_batches(cached, sampler))
    assert reader.decoded == 23
    for ours, theirs in zip(batches, expected, strict=True):
        assert isinstance(ours.images, jax.Array if memory == "device" else np.ndarray)
        for name in ("images", "labels", "rows", "mask"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert loader.cache_images("none", reader) is reader


@pytest.mark.parametrize(
    ("setting", "host", "device", "memory"),
    [
        ("auto", 10.0, None, "host"), ("auto", 10.0, 80.0, "device"), ("auto", 10.0, 6.0, "host"),
        ("auto", 3.0, 80.0, "none"), ("none", 10.0, 80.0, "none"), ("host", 3.0, 80.0, "host"),
        ("device", 3.0, None, "device"), ("host", 1.0, 80.0, "refused"), ("device", 1.0, 80.0, "refused"),
        ("device", 10.0, 1.0, "refused"),
    ],
)  # fmt: skip
def test_choice_of_memory(
    setting: str, host: float, device: float | None, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "host_memory", lambda: int(host * 1e9))
    monkeypatch.setattr(loader, "device_memory", lambda: None if device is None else int(device * 1e9))
    reader = ImageReader(synthetic.read_synthetic(4, 12_000, 40, 1), 224)  # 1.8 GB
    if memory == "refused":
        with pytest.raises(ConfigError, match=rf"data\.cache={setting}: .* do not fit, 1.00 GB are free"):
            loader.choose_memory(setting, reader)
    else:
        assert loader.choose_memory(setting, reader) == memory


def test_free_memory_within_a_control_group(tmp_path: Path) -> None:
    group = {  # a Slurm job: its own group has no limit, the parent group has
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    4000000 kB\n",
        "proc/self/cgroup": "0::/slurm/job_1\n",
        "sys/fs/cgroup/slurm/job_1/memory.max": "max\n",
    }
    for contents, expected in ((group, 4_096_000_000), ({"sys/fs/cgroup/slurm/memory.max": "1000\n"}, 1000)):
        for path, text in contents.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        assert files.host_memory(tmp_path) == expected
    assert files.host_memory(tmp_path / "not Linux") > 0
