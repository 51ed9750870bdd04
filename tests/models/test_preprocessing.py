import jax
import numpy as np
import pytest

from alljax.models.preprocessing import PREPROCESSINGS, get_preprocessing

# A black pixel and the pixel (255, 128, 0) after each preprocessing, computed by hand.
EXPECTED = {
    "torch": (
        (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
        ((1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225),
    ),
    "caffe": ((-103.939, -116.779, -123.68), (-103.939, 128 - 116.779, 255 - 123.68)),
    "rescale": ((0, 0, 0), (1, 128 / 255, 0)),
    "lite": ((-127 / 128,) * 3, (1, 1 / 128, -127 / 128)),
}


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_preprocessing(name: str) -> None:
    images = np.array([[[(0, 0, 0), (255, 128, 0)]]], np.uint8)
    output = jax.jit(get_preprocessing(name))(images)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output[0, 0], EXPECTED[name], rtol=1e-6, atol=1e-6)


def test_description_of_a_weight_source() -> None:
    preprocessing = get_preprocessing({"name": "torch", "interpolation": "bicubic"})
    assert (preprocessing.interpolation, preprocessing.mean) == ("bicubic", get_preprocessing("torch").mean)
