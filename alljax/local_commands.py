"""Commands about what is on this machine: its state as a whole, configs, weights, caches."""

import time

from alljax import cache, config_files, doctor
from alljax.commands import VERBS, Options, _verb
from alljax.errors import plural
from alljax.progress import show

__all__ = ["VERBS"]


@_verb("doctor", "--source:checked --config.KEY", "--source=C-NMC_Leukemia.zip")
def examine(options: Options) -> int:
    """Check versions, devices, numbers, caches, weights and a data set (exit code 1 if the quickstart cannot run)."""
    return 0 if doctor.examine(options.source, options.words) else 1


@_verb("configs list", "", "")
def configs_list(options: Options) -> None:
    """List the configs that are part of alljax."""
    show(*config_files.describe(), sep="\n")


@_verb("configs copy", "name:config", "paper")
def configs_copy(options: Options) -> None:
    """Write a config of alljax into the current folder, to change it."""
    path = config_files.copy(options.name)
    print(f"{path}: `alljax study --config={path} --workdir=runs/{path.stem}` runs it")


@_verb("weights list", "", "")
def weights_list(options: Options) -> None:
    """List the known sources of weights and which of them are present."""
    from alljax.weights import store

    for known in store.sources().values():
        size = f"{known.bytes / 1e6:,.0f} MB" if known.bytes else "size unknown"
        print(f"{known.name:40} {known.backbone}, {size}, {known.license}: {known.locate() or 'absent'}")


@_verb("weights show", "file", "vgg16-397923af.pth")
def weights_show(options: Options) -> None:
    """Show the tensors, the hash and the likely network of a weight file."""
    from alljax.weights import conversion, store

    arrays, source = conversion.read_weights(options.file), store.recognize(options.file)
    match = conversion.best_match(arrays)
    for name, array in arrays.items():
        show(f"{name}  {array.dtype} {array.shape}")
    print(f"\n{options.file}: {len(arrays)} tensors")
    print(f"SHA-256 {store.digest(options.file)} ({source.name if source else 'no known source'})")
    print(f"layout: {f'{match.layout.name} ({match.backbone.name})' if match.names else 'unknown'}")


@_verb("weights convert", "file --backbone --out:file", "a.pth --backbone=vgg16 --out=vgg16.st")
def weights_convert(options: Options) -> None:
    """Convert a weight file to alljax's layout (.safetensors)."""
    from alljax.weights import conversion

    count = conversion.convert_file(options.file, options.backbone, options.out)
    print(f"{options.out}: {count:,} parameters and statistics of {options.backbone}")


@_verb("weights fetch", "name", "torchvision-vgg16")
def weights_fetch(options: Options) -> None:
    """Download a known source of weights and check its hash."""
    from alljax.weights import store

    fetched = store.fetch(options.name)
    print(f"{fetched.path}: SHA-256 {fetched.sha256}")


@_verb("cache list", "", "")
def cache_list(options: Options) -> None:
    """List cached files and downloaded weights with their size and last use."""
    from alljax.weights import store

    for path in (*cache.entries(), *store.downloads()):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        print(f"{path.parent.name:12} {path.stat().st_size / 1e6:10,.2f} MB  {when}  {path.name}")
    print(cache.describe())


@_verb("cache clear", "--weights:too", "")
def cache_clear(options: Options) -> None:
    """Remove cached files; they are computed again when needed."""
    from alljax.weights import store

    paths = [*cache.entries(), *cache.abandoned(), *(store.downloads() if options.weights else ())]
    print(f"removed {plural(len(paths), 'file')}, {cache.remove(paths) / 1e9:,.2f} GB")
