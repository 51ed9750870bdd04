"""From decoded pixels to the input that a backbone was trained with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Preprocessing:
    """(pixels · scale − mean) / std, per channel."""

    name: str  # in configs
    image_size: int = 224  # height and width in pixels that images are resized to
    interpolation: str = "bilinear"  # resampling filter, one of Pillow's in lower case
    antialias: bool = True  # whether the filter is widened when images shrink, see `alljax.data.images`
    scale: float = 1.0  # factor on the pixel values 0 … 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in the order of `channels`, as is std
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: Literal["rgb", "bgr"] = "rgb"  # color order that the backbone was trained with
    cell: str = "keep"  # masked: gray cells, see `alljax.data.images.mask_cell`

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps resized RGB images, uint8 (B, S, S, 3), to float32 (B, S, S, 3)."""
        pixels: jax.Array = jnp.asarray(images).astype(jnp.float32)
        if self.channels == "bgr":
            pixels = pixels[..., ::-1]
        mean = jnp.asarray(self.mean, jnp.float32).reshape(1, 1, 1, 3)
        std = jnp.asarray(self.std, jnp.float32).reshape(1, 1, 1, 3)
        return (pixels * self.scale - mean) / std


PREPROCESSINGS = {
    preprocessing.name: preprocessing
    for preprocessing in (
        # torchvision.models and timm, default for ImageNet
        Preprocessing("torch", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        # keras.applications.imagenet_utils.preprocess_input(mode="caffe") after image_dataset_from_directory
        Preprocessing("caffe", antialias=False, mean=(103.939, 116.779, 123.68), channels="bgr"),
        # Keras's Rescaling(1/255), often used instead of what the weights expect
        Preprocessing("rescale", antialias=False, scale=1 / 255),
        # EfficientNet-Lite
        Preprocessing("lite", interpolation="bicubic", mean=(127.0,) * 3, std=(128.0,) * 3),
    )
}


def get_preprocessing(description: str | Mapping[str, Any]) -> Preprocessing:
    """Returns a preprocessing by name, or by name and changes: ``{"name": "torch", "interpolation": "bicubic"}``."""
    changes = {"name": description} if isinstance(description, str) else dict(description)
    return replace(PREPROCESSINGS[changes["name"]], **changes)
