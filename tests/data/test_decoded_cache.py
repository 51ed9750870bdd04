"""Cached images equal decoded ones, and are cached where they fit."""

from pathlib import Path

import jax
import numpy as np
import pytest

from alljax.data import decoded_cache, synthetic
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
    cached = decoded_cache.cache_images(memory, reader)
    with jax.transfer_guard("disallow"):
        batches = list(load_batches(cached, sampler))
        later = list(load_batches(cached, sampler, start=7))
    assert reader.decoded == 23
    for ours, theirs in zip(batches, expected, strict=True):
        assert isinstance(ours.images, jax.Array if memory == "device" else np.ndarray)
        for name in ("images", "labels", "rows", "mask"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert all(np.array_equal(ours.rows, theirs.rows) for ours, theirs in zip(later, expected[7:], strict=True))
    assert decoded_cache.cache_images("none", reader) is reader


@pytest.mark.parametrize(
    ("setting", "host", "device", "memory", "why"),
    [
        ("auto", 10.0, None, "host", "cached on the host, where 10.0 GB are free"),
        ("auto", 10.0, 80.0, "device", "cached on the device, where 80.0 GB are free"),
        ("auto", 10.0, 6.0, "host", "cached on the host, where 10.0 GB are free"),
        ("auto", 3.0, 80.0, "none", "decoded at every access: 3.0 GB are free on the host"),
        ("none", 10.0, 80.0, "none", "decoded at every access (data.cache=none)"),
        ("host", 3.0, 80.0, "host", "cached on the host (data.cache=host)"),
        ("device", 3.0, None, "device", "cached on the device (data.cache=device)"),
        ("host", 1.0, 80.0, "", "data.cache=host: .* do not fit, 1.0 GB are free on the host"),
        ("device", 1.0, 80.0, "", "data.cache=device: .* do not fit, 1.0 GB are free on the host"),
        ("device", 10.0, 1.0, "", "data.cache=device: .* do not fit, 1.0 GB are free on the device"),
    ],
)
def test_choice_of_memory(
    setting: str, host: float, device: float | None, memory: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_cache, "host_memory", lambda: int(host * 1e9))
    monkeypatch.setattr(decoded_cache, "device_memory", lambda: None if device is None else int(device * 1e9))
    reader = ImageReader(synthetic.read_synthetic(4, 12_000, 40, 1), 224)
    if not memory:
        with pytest.raises(ConfigError, match=why):
            decoded_cache.choose_memory(setting, reader)
        return
    chosen, message = decoded_cache.choose_memory(setting, reader)
    assert chosen == memory
    assert message.startswith("12,000 images of 224 × 224 pixels, 1.8 GB, ")
    assert message.endswith(why)


def test_free_memory_within_a_control_group(tmp_path: Path) -> None:
    files = {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    4000000 kB\n"}
    assert _host_memory(tmp_path, files) == 4_096_000_000
    files = {  # a Slurm job: its own group has no limit, the parent group has
        "proc/self/cgroup": "0::/slurm/job_1\n",
        "sys/fs/cgroup/slurm/job_1/memory.max": "max\n",
        "sys/fs/cgroup/slurm/memory.max": "1000\n",
        "sys/fs/cgroup/slurm/memory.current": "700\n",
        "sys/fs/cgroup/slurm/memory.stat": "anon 600\ninactive_file 100\n",
    }
    assert _host_memory(tmp_path, files) == 400
    assert decoded_cache.host_memory(tmp_path / "not Linux") > 0


def _host_memory(root: Path, files: dict[str, str]) -> int:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return decoded_cache.host_memory(root)
