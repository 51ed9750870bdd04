"""Features on disk are found under everything that they depend on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from alljax.config import default_config
from alljax.errors import WorkdirError
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import get_preprocessing
from alljax.training import feature_cache
from alljax.training.feature_cache import feature_key, load_features, store_features
from alljax.training.network import open_network

DIGESTS = ("a" * 64, "b" * 64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    return tmp_path / "features"


def test_key_depends_on_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    network = open_network(default_config())
    changed = [network] + [
        dataclasses.replace(network, **{name: value})
        for name, value in {
            "weights": dataclasses.replace(network.weights, sha256="c" * 64),
            "backbone": get_backbone("vgg16"),
            "stage": "stage3",
            "pool": "max",
            "preprocessing": get_preprocessing("rescale"),
        }.items()
    ]
    changed.append(
        dataclasses.replace(network, preprocessing=dataclasses.replace(network.preprocessing, image_size=96))
    )
    keys = [feature_key(each, DIGESTS, "none") for each in changed]
    keys += [feature_key(network, DIGESTS[::-1], "none"), feature_key(network, DIGESTS, "dihedral")]
    monkeypatch.setattr(feature_cache, "READING_VERSION", 0)
    keys.append(feature_key(network, DIGESTS, "none"))
    assert len(set(keys)) == len(keys)


def test_stored_features_are_loaded_and_damaged_ones_are_not(cache: Path) -> None:
    features = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)
    other = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    blocks = ([features[rows], other[rows]] for rows in (slice(0, 2), slice(2, 3)))
    store_features(["key", "other"], [features.shape, other.shape], blocks)
    loaded = load_features("key", 3)
    assert isinstance(loaded, np.memmap), "they stay on disk until they are read"
    assert np.array_equal(loaded, features)
    assert np.array_equal(load_features("other", 3), other)
    assert load_features("key", 4) is None
    assert load_features("unknown", 3) is None
    (cache / "key.npy").write_bytes((cache / "key.npy").read_bytes()[:-7])
    assert load_features("key", 3) is None


def test_interrupted_computation_leaves_nothing(cache: Path) -> None:
    def blocks():
        yield [np.zeros((2, 1, 5), np.float32)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_features(["key"], [(3, 1, 5)], blocks())
    assert not list(cache.iterdir())


def test_features_larger_than_the_disk_are_refused() -> None:
    with pytest.raises(WorkdirError, match="are free on the disk"):
        store_features(["key"], [(10**9, 10**3, 10**4)], [])
