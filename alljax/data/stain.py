"""Stains apart and together again: color deconvolution, on the device."""

import jax
import jax.numpy as jnp
import numpy as np

# Rows: the optical densities of red, green and blue that haematoxylin, eosin and DAB give.  A. C. Ruifrok and
# D. A. Johnston, "Quantification of histochemical staining by color deconvolution", Analytical and Quantitative
# Cytology and Histology 23, 291-299, 2001; to two digits as in scikit-image's `rgb_from_hed`.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED)


def separate(image: jax.Array) -> jax.Array:
    """Returns the amounts of haematoxylin, eosin and DAB, float32 (…, 3), of RGB in 0 … 255.

    Color deconvolution: optical densities ``-ln(image / 255)`` are sums of the stains' (`RGB_FROM_HED`).
    Values below one gray level count as one.  scikit-image's `rgb2hed` is this divided by
    ``-ln(1e-6)``, with negative amounts cut off.
    """
    density = -jnp.log(jnp.maximum(image, 1.0) / 255)
    return jnp.matmul(density, jnp.asarray(HED_FROM_RGB, jnp.float32), precision="highest")


def combine(stains: jax.Array) -> jax.Array:
    """Returns the RGB, float32 (…, 3) in 0 … 255, that amounts of stain give: the inverse of `separate`."""
    return 255 * jnp.exp(-jnp.matmul(stains, jnp.asarray(RGB_FROM_HED, jnp.float32), precision="highest"))


def jitter(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Changes the amount of each stain in an image, float32 (S, S, 3).

    An amount h becomes ``a·h + b`` with a from 1 ± strength and b from ± strength, one a stain and
    image (Tellez and others, "Whole-slide mitosis detection in H&E breast histology using PHH3 as a
    reference to train distilled stain-invariant convolutional networks", 2018, doi
    10.1109/TMI.2018.2820199).  Blood smears are not stained with H&E; the three stains still span
    all colors, and vary them the way dyes do.
    """
    scale, more = jax.random.uniform(key, (2, 1, 1, 3), minval=-strength, maxval=strength)
    stains = separate(image)
    # What changes multiplies the image, so that black, whose density is infinite, stays black.
    return image * (combine(stains * scale + more) / 255)
