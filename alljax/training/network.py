"""A backbone with its weights, and which of its activations are the features."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxlib.version import __version__ as jaxlib_version
from ml_collections import ConfigDict

from alljax import cache, files, interrupts
from alljax import config as configs
from alljax.errors import ConfigError
from alljax.models.backbones import Backbone, get_backbone
from alljax.models.preprocessing import Preprocessing, get_preprocessing
from alljax.training.distributed import start_backend
from alljax.weights import conversion, store

# Row counts at which fused loops of XLA's CPU back end change shape.
ROWS = tuple(2**power + offset for power in (14, 15) for offset in (-1, 0, 1, 17))


@dataclass(frozen=True, repr=False)
class Network:
    """From pixels to one feature vector per image."""

    backbone: Backbone
    stage: str  # whose activations are the features
    pool: str  # one of `POOLINGS`
    preprocessing: Preprocessing  # from uint8 pixels to the backbone's input
    expected: Preprocessing  # that the weights were trained with
    weights: store.Located
    layout: str  # of the weight file, for example ``torchvision``
    load: Callable[[], Any] = field(compare=False)  # returns `variables`

    def __repr__(self) -> str:
        weights = self.weights.source.name if self.weights.source else str(self.weights.path)
        shape = f"image_size={self.preprocessing.image_size}, features={self.feature_count}"
        return f"Network({self.name!r}, weights={weights!r}, stage={self.stage!r}, pool={self.pool!r}, {shape})"

    @property
    def name(self) -> str:
        """The name of the backbone."""
        return self.backbone.name

    @property
    def variables(self) -> Any:
        """``{"params": …, "batch_stats": …}``, float32, for the size of the images; read on first use."""
        return self.backbone.module.resize(self.load(), self.preprocessing.image_size, self.layout)

    def describe(self) -> dict[str, Any]:
        """Returns the description that results contain, ready for JSON."""
        return {
            "backbone": self.backbone.name,
            "version": self.backbone.version,
            "stage": self.stage,
            "pool": self.pool,
            "name": self.weights.source.name if self.weights.source else "",
            "license": (self.weights.source or store.UNKNOWN).license,
            "path": str(self.weights.path.resolve()) if self.weights.path.name else "",
            "sha256": self.weights.sha256,
            "layout": self.layout,
            "preprocessing": asdict(self.preprocessing),
        }

    @property
    def _stages(self) -> tuple[str, ...]:
        """Those up to the one whose activations are used."""
        return self.backbone.stages[: self.backbone.stages.index(self.stage) + 1]

    def used(self, collection: str) -> Any:
        """Returns the variables of ``params`` or ``batch_stats`` that the features depend on."""
        return {name: tree for name, tree in self.variables.get(collection, {}).items() if name in self._stages}

    @property
    def parameter_count(self) -> int:
        """The number of parameters that the features depend on."""
        kept = tuple(f"params/{stage}/" for stage in self._stages)
        return sum(math.prod(shape) for path, shape in self.backbone.shapes.items() if path.startswith(kept))

    @functools.cached_property
    def feature_count(self) -> int:
        """D, the number of features of the pooled stage."""
        if self.pool != "flatten":
            return self.backbone.module.widths[self.stage] * (2 if self.pool == "cls_mean" else 1)
        size, apply = self.preprocessing.image_size, functools.partial(self.backbone.module.apply, last=self.stage)
        activations: Any = jax.eval_shape(apply, self.variables, jnp.zeros((1, size, size, 3)))
        return math.prod(activations[self.stage].shape)

    @property
    def sequence(self) -> tuple[int, int] | None:
        """The pixels of a flattened feature map, row by row, and its channels; None where it is pooled."""
        width = self.backbone.module.widths[self.stage]
        return (self.feature_count // width, width) if self.pool == "flatten" else None

    def mismatch(self) -> str:
        """Returns how the preprocessing differs from what the weights were trained with; empty if it does not."""
        ours = asdict(replace(self.preprocessing, cell=self.expected.cell))
        theirs = ours if self.weights.source is store.RANDOM else asdict(self.expected)
        return ", ".join(f"{key} {ours[key]} instead of {theirs[key]}" for key in ours if ours[key] != theirs[key])


def load_backbone(
    name: str, weights: str | Path = "", *, stage: str = "", pool: str = "", image_size: int = 0, seed: int = 0
) -> Network:
    """Returns a pretrained backbone, which `alljax.extract_features` applies to images.

    Args:
        name: One of the backbones that ``alljax study --settings`` lists, for example ``vgg16`` or ``dinov2_vits14``.
        weights: A weight file of torchvision, timm, Keras or alljax, or a folder of them; the name of a known source
            (``alljax weights list``); ``random`` for initial weights; by default any known source on this machine, or
            else the download of the backbone's first one.
        stage: The stage whose activations are the features; by default the last one.
        pool: ``average``, ``max``, ``flatten``, ``cls`` or ``cls_mean``; by default the backbone's own.
        image_size: Height and width in pixels to which images are resized; by default that of the weights.
        seed: Of random weights.

    Raises:
        ConfigError: A backbone, stage, pooling or size that does not exist; it names the nearest one.
        WeightsError: No such weights, or a file that is damaged, of another network or not safe to read.

    >>> alljax.load_backbone("efficientnet_lite0", weights="random", stage="stage1", image_size=64)
    Network('efficientnet_lite0', weights='random', stage='stage1', pool='average', image_size=64, features=16)
    """
    path = Path(weights)
    known = weights in (store.RANDOM.name, *store.sources()) or not (path.exists() or path.suffix in store.SUFFIXES)
    settings = {"model.backbone": name, "model.stage": stage, "model.pool": pool, "seed": seed}
    settings |= {"preprocessing.image_size": image_size, "weights.name" if known else "weights.path": str(weights)}
    return open_networks([configs.load_config(**settings)])[0]


def open_networks(configs: Iterable[ConfigDict]) -> list[Network]:
    """Returns the network that each config describes; equal networks are the same object, and weights are read once."""
    start_backend()
    check_compiler()
    load, opened, networks = functools.cache(_load), dict[Network, Network](), []
    for config in configs:
        check_names(config)
        network = load(config.model.backbone, config.weights.path, config.weights.name, config.seed)
        name, size = config.preprocessing.name, config.preprocessing.image_size
        preprocessing = get_preprocessing(name) if name else network.expected
        changes = {"image_size": size or preprocessing.image_size, "cell": config.preprocessing.cell}
        preprocessing, stage = replace(preprocessing, **changes), config.model.stage or network.stage
        pool = config.model.pool or network.pool
        network = replace(network, stage=stage, pool=pool, preprocessing=preprocessing)
        networks.append(opened.setdefault(network, network))
    return networks


def check_names(config: ConfigDict) -> None:
    """Raises `ConfigError` if a config names a backbone, stage, pooling or image size that does not exist."""
    backbone, stage, pool = get_backbone(config.model.backbone), config.model.stage, config.model.pool
    if stage and stage not in backbone.stages:
        raise ConfigError(f"model.stage={stage!r}: {backbone.name} has the stages {', '.join(backbone.stages)}")
    if pool and pool not in backbone.module.poolings:
        raise ConfigError(f"model.pool={pool!r}: {backbone.name} has {', '.join(backbone.module.poolings)}")
    size, multiple = config.preprocessing.image_size, backbone.module.multiple
    if size % multiple:
        near = f"set {size // multiple * multiple} or another multiple of {multiple}, or 0 for that of the weights"
        raise ConfigError(f"preprocessing.image_size={size}: {backbone.name} divides images into patches; {near}")


def _load(name: str, path: str, weights: str, seed: int) -> Network:
    """Returns the network with its weights, those of a known source unread until they are needed, and last stage."""
    backbone, located, key = get_backbone(name), store.find(path, weights, name), jax.random.key(seed)

    @functools.cache
    def converted() -> conversion.Converted:
        located.verify()
        arrays = conversion.read_weights(located.path)
        return conversion.convert(arrays, name, located.path, located.source)

    @functools.cache
    def drawn() -> Any:
        arguments = key, jnp.zeros((1, 224, 224, 3))
        once: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles faster
        return jax.device_get(jax.jit(backbone.module.init).lower(*arguments).compile(once)(*arguments))

    load: Callable[[], Any] = drawn
    if located.source is store.RANDOM:
        content = f"{name} {seed} {jax.random.bits(key, (4,)).tolist()}"  # other versions of JAX may draw others
        content += f" {backbone.version}" if isinstance(backbone.version, str) else ""
        located = replace(located, sha256=hashlib.sha256(content.encode()).hexdigest())
        source, layout = None, next(iter(backbone.layouts))
    else:
        source, load = located.source, lambda: converted().variables
        layout = source.layout if source else converted().layout
    expected = get_preprocessing(source.preprocessing if source else backbone.layouts[layout].preprocessing)
    stage, pool = backbone.stages[-1], backbone.module.poolings[0]
    return Network(backbone, stage, pool, expected, expected, located, layout, load)


def check_compiler() -> None:
    """Raises `ConfigError` if jax issue 39103, a wrong matrix-vector product, shows; success is recorded per jaxlib."""
    passed = files.cache_dir() / "self-checks" / f"jaxlib-{jaxlib_version}-{jax.default_backend()}"
    if cache.read_text(passed):
        return
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((3, 3), np.float32)
    compiled = jax.jit(jax.vmap(lambda matrix, vector: jnp.sum((matrix @ vector) ** 2), in_axes=(None, 0)))
    for rows in ROWS:
        interrupts.check(collective=True)
        vectors = generator.standard_normal((rows, 3), np.float32)
        with jax.default_matmul_precision("float32"):
            results = np.asarray(compiled(matrix, vectors))
        if wrong := np.sum(~np.isclose(results, ((vectors @ matrix.T) ** 2).sum(1), rtol=1e-3, atol=1e-3)):
            raise ConfigError(
                f"jaxlib {jaxlib_version} computes wrong numbers on this {jax.default_backend()}: {wrong} of "
                f"{rows:,} rows differ from NumPy's; install another version, for example: pip install 'jax!=0.10.2'"
            )
    cache.write_text(passed, "passed")
