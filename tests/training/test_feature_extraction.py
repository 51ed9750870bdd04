"""Features of images: all stages and views from one pass, read once, the same on all devices, stored."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alljax.config import default_config, vary
from alljax.data import synthetic
from alljax.data.dataset import Dataset
from alljax.data.loader import ImageReader
from alljax.errors import WorkdirError
from alljax.training import feature_cache, feature_extraction
from alljax.training.feature_extraction import FeatureExtractor, ImageSources, feature_blocks, reason_to_stream
from alljax.training.network import Network, open_network, open_networks

SIDE, COUNT = 48, 5
CONFIG = vary(default_config(), {"preprocessing.image_size": SIDE, "features.batch_size": 2, "model.stage": "stage1"})


@pytest.fixture(scope="module")
def network() -> Network:
    return open_network(CONFIG)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic.read_synthetic(subjects=3, images=COUNT, image_size=SIDE, seed=0)


def compute(networks: list[Network], dataset: Dataset, augment: str = "none") -> list[np.ndarray]:
    settings = networks[0].preprocessing
    reader = ImageReader(dataset, settings.image_size, settings.interpolation, settings.antialias)
    return [np.concatenate(blocks) for blocks in zip(*feature_blocks(networks, reader, CONFIG, augment), strict=True)]


@pytest.fixture(scope="module")
def eight(network: Network, dataset: Dataset) -> np.ndarray:
    return compute([network], dataset, "dihedral")[0]


def test_one_pass_gives_all_stages_and_poolings(dataset: Dataset) -> None:
    changes: list[dict[str, Any]] = [
        {"model.stage": "stem"}, {"model.pool": "max"}, {"model.stage": "stem", "model.pool": "flatten"}
    ]  # fmt: skip
    networks = open_networks(vary(CONFIG, change) for change in changes)
    for network, features in zip(networks, compute(networks, dataset), strict=True):
        assert features.shape == (COUNT, 1, network.feature_count)
        np.testing.assert_allclose(features, compute([network], dataset)[0], rtol=1e-5, atol=1e-5)


def test_first_view_is_the_image(network: Network, dataset: Dataset, eight: np.ndarray) -> None:
    (one,) = compute([network], dataset)
    assert eight.shape == (COUNT, 8, network.feature_count)
    assert one.dtype == eight.dtype == np.float32
    assert np.array_equal(one[:, 0], eight[:, 0])
    differences = np.abs(eight[:, None] - eight[:, :, None]).max(-1) + np.eye(8)
    assert differences.min() > 1e-3, "all views are different"


def test_each_image_is_read_once_and_batches_use_all_devices(
    network: Network, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []
    devices: list[int] = []
    make = feature_extraction.make_extractor

    def make_spy(networks: list[Network]) -> Any:
        extract = make(networks)

        def spy(variables: Any, images: jax.Array) -> Any:
            devices.append(len(images.sharding.device_set))
            return extract(variables, images)

        return spy

    monkeypatch.setattr(feature_extraction, "make_extractor", make_spy)
    counted = dataclasses.replace(dataset, read=lambda record: paths.append(record.path) or dataset.read(record))
    compute([network], counted, "dihedral")
    assert sorted(paths) == sorted(record.path for record in dataset.records)
    assert set(devices) == {jax.device_count()}


def test_extractor_stores_all_networks_of_a_pass(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    networks = open_networks(vary(CONFIG, {"model.stage": stage}) for stage in ("stem", "stage1"))
    requests, digests = [(network, "none") for network in networks], tuple("abcde")

    def extractor() -> FeatureExtractor:
        return FeatureExtractor(CONFIG, requests, digests, ImageSources(CONFIG, dataset, networks))

    first = extractor()
    assert [len(same_pass) for same_pass, _ in first.missing()] == [2]
    features = first.load(*requests[0])
    assert first.load(*requests[0]) is features, "the same object, so that it stays on the device"
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2
    assert extractor().missing() == []
    assert np.array_equal(extractor().load(*requests[0]), features)
    assert any("are stored" in message for message in messages)
    on_device = first.load_for_training(networks[0], CONFIG)
    assert isinstance(on_device, jax.Array)
    assert first.load_for_training(networks[0], CONFIG) is on_device
    assert isinstance(first.load_for_training(networks[0], vary(CONFIG, {"features.memory": "disk"})), np.ndarray)


def test_features_stay_in_memory_if_they_cannot_be_stored(
    network: Network, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise WorkdirError("the disk is full")

    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(feature_extraction, "store_features", full)
    extractor = FeatureExtractor(CONFIG, [(network, "none")], tuple("abcde"), ImageSources(CONFIG, dataset))
    assert extractor.load(network, "none").shape == (COUNT, 1, network.feature_count)
    assert any("are not stored: the disk is full" in message for message in messages)
    assert feature_cache.load_features(feature_cache.feature_key(network, tuple("abcde"), "none"), COUNT) is None


def test_equal_settings_share_a_network_and_it_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    same, other_rate, stage, preprocessing = open_networks(
        vary(default_config(), change)
        for change in ({}, {"train.learning_rate": 0.1}, {"model.stage": "stage2"}, {"preprocessing.name": "torch"})
    )
    assert other_rate is same
    assert stage.stage == "stage2"
    assert (same.preprocessing.name, preprocessing.preprocessing.name) == ("lite", "torch")
    assert preprocessing.mismatch()
    assert not same.mismatch()
    count = same.feature_count
    monkeypatch.setattr(jax, "eval_shape", None)
    assert same.feature_count == count


def test_reason_to_stream() -> None:
    assert reason_to_stream("disk", 1)
    assert not reason_to_stream("device", 10**15)
    assert reason_to_stream("auto", 10**15)
    assert not reason_to_stream("auto", 1)
