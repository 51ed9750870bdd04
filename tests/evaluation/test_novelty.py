"""Distance to the training images in feature space."""

import numpy as np

from alljax.evaluation import feature_space


def test_distances_of_new_subjects_are_usual_and_those_of_other_images_are_not() -> None:
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(30), 20)
    centers = rng.normal(5, 1, (60, 16))
    images = (centers[np.repeat(np.arange(60), 20)] + rng.normal(0, 0.1, (1200, 16))).astype(np.float32)
    train, new = images[:600], images[600:]
    stored = feature_space.training_features(train, subjects, np.arange(600))
    distances, quantiles = feature_space.distances(stored, new)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (new, train)]
    expected = np.sqrt(((unit[0][:, None] - unit[1][None]) ** 2).sum(2)).min(1)
    np.testing.assert_allclose(distances, expected, atol=2e-3)
    assert 0.35 < quantiles.mean() < 0.65
    assert feature_space.distances(stored, train)[1].max() < 0.05, "each image is its own nearest one"
    assert feature_space.distances(stored, -new)[1].min() == 1
    every = np.arange(1200)
    assert len(feature_space.training_features(images, every, every)["features"]) == feature_space.MAX_IMAGES
