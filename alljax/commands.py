"""What each verb of the command line does: read its options, call a room, print.

Rooms are imported inside, so that a mistake in the options is told at once.
"""

import argparse
import contextlib
import os
import shutil
import sys
from pathlib import Path

from alljax import files
from alljax.errors import ConfigError
from alljax.training import distributed


def study(options: argparse.Namespace) -> None:
    """`alljax study`."""
    from alljax import config

    settings = config.load(options.config, options.overrides)  # a typo is told before the slow imports

    if together := distributed.initialize(options.coordinator, options.processes, options.process):
        _say(together)
    _keep_compiled()

    from alljax import interrupts
    from alljax.report import plots, report
    from alljax.study import experiment, run

    shard, force = getattr(options, "shard", (0, 1)), options.resume == "force"
    if getattr(options, "dry_run", False):
        from alljax.study import dry_run

        dry_run.dry_run(settings, options.workdir, shard)
        return
    with interrupts.handle_signals():
        study = run.run_study(settings, options.workdir, shard, force)
        if study is None:
            return
        trials = [config.unflatten(study.settings(name)) for name in study.trials]
        plots.write_contact_sheets(study, experiment.open_records(trials))
        report.write_report(options.workdir)
    report.show(study.metrics)
    _say(f"\nThe report: {options.workdir / 'report.html'}")
    if settings.data.source == "synthetic":
        _say(
            "These cells were generated. For your own images (a folder a class, inside it a folder a person), type\n"
            f"  {_program()} study --config={options.config} --workdir=runs/mine --config.data.source=YOUR_FOLDER"
        )
    else:
        _say(f"New images: {_program()} predict --workdir={options.workdir} IMAGE_OR_FOLDER --out=predictions.csv")


def train(options: argparse.Namespace) -> None:
    """`alljax train`: a study that varies nothing."""
    if any(key == "study.sweep" for key, _ in options.overrides):
        raise ConfigError("`alljax train` varies nothing; use `alljax study` with --config.study.sweep")
    options.overrides.append(("study.sweep", "()"))
    study(options)


def features(options: argparse.Namespace) -> None:
    """`alljax features`."""
    from alljax import config

    settings = config.load(options.config, options.overrides)

    from alljax.study import extraction

    shape = extraction.write_features(settings, options.out)
    _say(f"{options.out}: features {shape[0]:,} × {shape[1]:,}")


def rates(options: argparse.Namespace) -> None:
    """`alljax rates`."""
    from alljax import config

    settings = config.load(options.config, options.overrides)

    from alljax.study import rates

    rate = rates.find_rate(settings, options.out)
    _say(f"{options.out}: the loss of every step\nthe lowest loss: train.learning_rate={rate:.3g}")


def predict(options: argparse.Namespace) -> None:
    """`alljax predict`."""
    from alljax.study import predict

    count = predict.predict(options.workdir, options.trial, options.weights, options.images, options.out)
    _say(f"{options.out}: {count:,} image{'' if count == 1 else 's'}")


def report(options: argparse.Namespace) -> None:
    """`alljax report`."""
    from alljax.report import report
    from alljax.study import merge

    merge.merge_shards(options.workdir, options.shards)
    _say(f"The report: {report.write_report(options.workdir)}")


def data_verify(options: argparse.Namespace) -> int:
    """`alljax data verify`; exit code 1 where something is off."""
    from alljax.data import verify

    found = verify.verify(options.source)
    verify.show(found, options.out)
    return 1 if found.problems else 0


def data_audit(options: argparse.Namespace) -> None:
    """`alljax data audit`."""
    from alljax.data import audit

    found = audit.audit(options.source, options.protocol, options.overrides)
    audit.show(found, options.out)
    if found.error:
        raise found.error


def data_prepare(options: argparse.Namespace) -> None:
    """`alljax data prepare`."""
    from alljax.data import prepare

    prepare.prepare(options.source, options.out)


def weights_list(options: argparse.Namespace) -> None:
    """`alljax weights list`."""
    from rich.console import Console
    from rich.table import Table

    from alljax.weights import store

    table = Table("name", "backbone", "size", "classifier", "license", "where", box=None, header_style="bold")
    for listed in store.listing():
        source = listed.source
        size = f"{source.bytes / 1e6:,.0f} MB" if source.bytes else "?"
        classifier = "yes" if source.classifier else "no"
        table.add_row(source.name, source.backbone, size, classifier, source.license, listed.place)
    table.columns[0].no_wrap = True  # the names are what `fetch` takes
    table.columns[0].min_width = max(len(listed.source.name) for listed in store.listing())
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def weights_show(options: argparse.Namespace) -> None:
    """`alljax weights show`."""
    from alljax.weights import show

    found = show.describe(options.file)
    for name, shape, dtype in found.tensors:
        _say(f"{name}  {dtype} {tuple(shape)}")
    _say(f"\n{found.path}: {found.format}, {found.bytes:,} bytes, {len(found.tensors)} tensors")
    _say(f"SHA-256 {found.sha256}")
    _say(f"looks like {found.family or 'no network known here'}" + (f" ({found.backbone})" if found.backbone else ""))
    _say(f"known source: {found.source.name if found.source else 'none with this hash'}")
    for note in found.notes:
        _say(note)


def weights_port(options: argparse.Namespace) -> None:
    """`alljax weights port`."""
    from alljax.weights import rewrite

    count = rewrite.rewrite(options.file, options.backbone, options.out)
    _say(f"{options.out}: {count:,} parameters and statistics of {options.backbone}")


def weights_fetch(options: argparse.Namespace) -> None:
    """`alljax weights fetch`."""
    from alljax.weights import store

    fetched = store.fetch(options.name)
    _say(f"{fetched.path}: SHA-256 {fetched.sha256}" + (f" ({fetched.note})" if fetched.note else ""))


def _keep_compiled() -> None:
    """Lets JAX keep what it compiles for a GPU or TPU, so that a run that goes on starts at once.

    Not for a CPU: JAX 0.10 keys that code by no CPU feature, so that one home shared by unlike hosts may end in
    SIGILL, and on hosts that avoid gathers it refuses its own code with several lines each (jax-ml/jax#38445).
    ``JAX_COMPILATION_CACHE_DIR`` turns it on there too, or sets another folder; empty, it turns it off.
    """
    import jax

    if jax.default_backend() == "cpu" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = files.cache_dir() / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):  # else JAX would warn at every function
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _program() -> str:
    """Returns what a person must type to call us: ``alljax``, or the way to it where it is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name != "alljax" or shutil.which("alljax") == str(called.absolute()):
        return "alljax"
    return os.path.relpath(called) if called.absolute().is_relative_to(Path.cwd()) else str(called)


def _say(line: str) -> None:
    print(line, flush=True)
