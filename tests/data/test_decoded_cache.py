import jax
import numpy as np
import pytest

from alljax.data import decoded_cache, synthetic
from alljax.data.loader import Images, Loader, Order, batches
from alljax.errors import ConfigError

GIGABYTE = 10**9


class Counted(Images):
    """Images that count how many were decoded."""

    def take(self, rows, mask):
        self.__dict__["decoded"] = self.__dict__.get("decoded", 0) + int(mask.sum())
        return super().take(rows, mask)


@pytest.fixture
def images():
    return Counted(synthetic.read(4, 23, 40, 1), 16)


@pytest.mark.parametrize("place", ["host", "device"])
def test_batches_are_the_same_with_and_without_and_nothing_is_decoded_again(place, images):
    order = Order(np.random.default_rng(0).permutation(23)[:19], 4, seed=3, epochs=3)
    wanted = list(Loader(images, order))
    images.__dict__["decoded"] = 0
    told = []
    kept = decoded_cache.keep(images, place, told.append)
    assert (sum(told), images.decoded) == (23, 23)
    with jax.transfer_guard("disallow"):
        got = list(Loader(kept, order))
    assert images.decoded == 23
    for ours, theirs in zip(got, wanted, strict=True):
        assert isinstance(ours.images, jax.Array if place == "device" else np.ndarray)
        for name in ("images", "labels", "rows", "mask"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype


def test_a_stop_goes_on_from_a_cache(images):
    order = Order(np.arange(23), 4, seed=3, epochs=2)
    with Loader(images, order) as plain:
        next(plain), next(plain)
        state = plain.get_state()
        rest = list(plain)
    again = Loader(decoded_cache.keep(images, "host"), order)
    again.set_state(state)
    for ours, theirs in zip(again, rest, strict=True):
        assert np.array_equal(ours.images, theirs.images)


def test_none_keeps_nothing(images):
    assert decoded_cache.keep(images, "none") is images
    assert "decoded" not in images.__dict__


def test_one_pass_over_a_cache(images):
    kept = decoded_cache.keep(images, "host")
    assert np.array_equal(np.concatenate([batch.images[batch.mask] for batch in batches(kept, 5)]), kept.images)


@pytest.mark.parametrize(
    ("setting", "host", "device", "place", "why"),
    [
        ("auto", 10.0, None, "host", "stay decoded on the host, where 10.0 GB are free"),
        ("auto", 10.0, 80.0, "device", "stay decoded on the device, where 80.0 GB are free"),
        ("auto", 10.0, 6.0, "host", "stay decoded on the host, where 10.0 GB are free"),
        ("auto", 3.0, 80.0, "none", "decoded each time they are read: 3.0 GB are free on the host"),
        ("none", 10.0, 80.0, "none", "decoded each time they are read (data.cache=none)"),
        ("host", 3.0, 80.0, "host", "stay decoded on the host (data.cache=host)"),
        ("device", 3.0, 4.0, "device", "stay decoded on the device (data.cache=device)"),
        ("device", 3.0, None, "device", "stay decoded on the device (data.cache=device)"),
    ],
)
def test_where_they_stay(setting, host, device, place, why, monkeypatch):
    monkeypatch.setattr(decoded_cache, "host_memory", lambda: int(host * GIGABYTE))
    monkeypatch.setattr(decoded_cache, "device_memory", lambda: None if device is None else int(device * GIGABYTE))
    chosen, line = decoded_cache.choose(setting, Images(synthetic.read(4, 12_000, 40, 1), 224))
    assert chosen == place
    assert line.startswith("12,000 images of 224 × 224 pixels, 1.8 GB, ")
    assert line.endswith(why)


@pytest.mark.parametrize(
    ("setting", "host", "device", "message"),
    [
        ("host", 1.0, 80.0, "data.cache=host: .* do not fit, 1.0 GB are free on the host"),
        ("device", 1.0, 80.0, "data.cache=device: .* do not fit, 1.0 GB are free on the host"),
        ("device", 10.0, 1.0, "data.cache=device: .* do not fit, 1.0 GB are free on the device"),
    ],
)
def test_where_they_cannot_stay(setting, host, device, message, monkeypatch):
    monkeypatch.setattr(decoded_cache, "host_memory", lambda: int(host * GIGABYTE))
    monkeypatch.setattr(decoded_cache, "device_memory", lambda: int(device * GIGABYTE))
    with pytest.raises(ConfigError, match=message):
        decoded_cache.choose(setting, Images(synthetic.read(4, 12_000, 40, 1), 224))


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    4000000 kB\nHugePages_Total:       0\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 4_096_000_000),
        (
            {  # a Slurm job under version 2: its own group has no limit, the one around it has
                "proc/self/cgroup": "0::/slurm/job_1\n",
                "sys/fs/cgroup/slurm/job_1/memory.max": "max\n",
                "sys/fs/cgroup/slurm/job_1/memory.current": "9\n",
                "sys/fs/cgroup/slurm/job_1/memory.stat": "inactive_file 5\n",
                "sys/fs/cgroup/slurm/memory.max": "1000\n",
                "sys/fs/cgroup/slurm/memory.current": "700\n",
                "sys/fs/cgroup/slurm/memory.stat": "anon 600\ninactive_file 100\n",
            },
            400,
        ),
        (
            {  # a container under version 1, whose own path is not seen from inside
                "proc/self/cgroup": "4:cpu:/docker/x\n3:memory:/docker/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500\n",
                "sys/fs/cgroup/memory/memory.stat": "cache 9\ntotal_inactive_file 200\n",
            },
            700,
        ),
    ],
)
def test_memory_that_is_free(files, free, tmp_path):
    assert decoded_cache.host_memory(write(tmp_path, MACHINE | files)) == free


def test_memory_where_linux_does_not_tell(tmp_path):
    assert decoded_cache.host_memory(tmp_path) > 0
    assert decoded_cache.device_memory() is None  # the tests' devices are the host
