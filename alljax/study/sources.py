"""Where the pixels of a study come from: decoded when they are read, or kept where they are read again."""

from collections import Counter
from collections.abc import Sequence

from ml_collections import ConfigDict

from alljax.data import decoded_cache
from alljax.data.dataset import Dataset
from alljax.data.loader import ImageReader, ImageSource
from alljax.training.network import Network


def images_of(network: Network, dataset: Dataset) -> ImageReader:
    """Returns the images as a network wants them, decoded whenever they are read."""
    wanted = network.preprocessing
    return ImageReader(dataset, wanted.image_size, wanted.interpolation, wanted.antialias)


def keep(config: ConfigDict, images: ImageReader) -> ImageSource:
    """Returns images that stay decoded where ``data.cache`` says, or where they fit; says which.

    Raises:
        ConfigError: they do not fit where they should stay.
        DataError: an image that cannot be read.
    """
    return decoded_cache.cache_images(config.data.cache, images, config.data.workers)


class Sources:
    """The images for each network of a study; those that several networks want alike are decoded once."""

    def __init__(self, config: ConfigDict, dataset: Dataset, networks: Sequence[Network]) -> None:
        """Decodes nothing yet.

        Args:
            config: ``data.cache`` and ``data.workers`` are read.
            dataset: the images.
            networks: of all cells.
        """
        self._config, self._dataset = config, dataset
        self._kept: dict[str, ImageSource] = {}
        distinct = {id(network): network for network in networks}.values()
        self._wanted = Counter(self._key(network) for network in distinct)

    def of(self, network: Network, again: bool = False) -> ImageSource:
        """Returns the images for a network.

        Args:
            network: one of the study's.
            again: whether it reads them more than once.
        """
        key = self._key(network)
        if key not in self._kept and (again or self._wanted[key] > 1):
            self._kept[key] = keep(self._config, images_of(network, self._dataset))
        return self._kept.get(key) or images_of(network, self._dataset)

    def _key(self, network: Network) -> str:
        wanted = network.preprocessing
        return f"{wanted.image_size} {wanted.interpolation} {wanted.antialias}"
