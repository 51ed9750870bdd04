"""What each `alljax` command does; subpackages are imported inside the functions, so that ``--help`` is fast."""

import time
from argparse import Namespace as Options
from collections.abc import Callable, Iterable

from alljax import cache, config_files, doctor, files, paper
from alljax.errors import ConfigError, UserError, plural
from alljax.progress import show
from alljax.training import distributed

Call = Callable[[Options], int | None]
VERBS: dict[str, tuple[Call, str, str]] = {}  # function, arguments (keys of `cli.ARGUMENTS`) and example of each verb

CONFIG = "--config --config.KEY --settings"
RUN = f"{CONFIG} --workdir --resume --coordinator --processes --process --timeout"  # of `study` and `train`


def _verb(name: str, arguments: str, example: str) -> Callable[[Call], Call]:
    """Registers a function as a verb; its docstring is the help text."""

    def register(call: Call) -> Call:
        VERBS[name] = call, arguments, f"alljax {name} {example}".strip()
        return call

    return register


def _exit_code(notes: Iterable[str]) -> int:
    """Returns 3 if a note of the data set says that unreadable images were skipped, else 0."""
    return 3 if any("data.on_error=skip" in note for note in notes) else 0


@_verb("study", f"{RUN} --shard --dry_run", "--config=quickstart --workdir=runs/quickstart")
def study(options: Options) -> int:
    """Train and evaluate all trials of a study and write its report."""
    distributed.initialize(options.coordinator, options.processes, options.process, options.timeout)
    more = {"shard": options.shard, "force": options.resume == "force", "problems": options.problems}
    if options.dry_run:
        from alljax.study import run

        run.dry_run(options.settings, options.workdir, **more)
        return 0
    from alljax import api
    from alljax.report import model_tables

    trained = api.run_study(options.settings, options.workdir, **more)
    if trained is None:
        return 0
    model_tables.print_results(trained.study)
    return _exit_code(trained.study.metrics["dataset"]["notes"])


@_verb("train", RUN, "--config=quickstart --workdir=runs/sgd --config.train.optimizer=sgd")
def train(options: Options) -> int | None:
    """Train and evaluate one trial: a study without a sweep."""
    if any(word.startswith("--config.study.sweep") for word in options.words):
        raise ConfigError("`alljax train` has no sweep; use `alljax study` with --config.study.sweep")
    options.settings.study.update(sweep=(), design="", combine=())
    options.shard, options.dry_run = (0, 1), False
    return study(options)


@_verb("predict", "--workdir:several --trial --weights --out:csv images", "--workdir=runs/quickstart my_images/")
def predict(options: Options) -> int:
    """Classify images with a trained trial of one or several studies; an interrupted command continues."""
    from alljax import api
    from alljax.study import predict

    models = [api.load_study(folder, options.trial, options.weights).ensemble for folder in options.workdir]
    lines, unreadable = predict.write_predictions(models, options.images, options.out)
    show(*lines, sep="\n")
    return 3 if unreadable else 0


@_verb(
    "evaluate",
    "--workdir --source:other --classes --robustness --images:most --trial --weights",
    "--workdir=runs/quickstart --source=other_hospital --classes=healthy=hem,blast=all",
)
def evaluate(options: Options) -> int:
    """Evaluate a finished study again from its stored predictions, or on another labeled source; write its report."""
    from alljax.report import evaluation_sections, model_tables, report, tables
    from alljax.study import assessment, external

    study = assessment.evaluate_study(options.workdir)
    if options.robustness:
        external.measure_robustness(options.workdir, options.trial, options.weights, options.images)
    if not options.source:
        report.write_report(options.workdir, paper.sections)
        model_tables.print_results(study)
        return 0
    place = external.evaluate_source(options.workdir, options.trial, options.weights, options.source, options.classes)
    page = report.write_report(options.workdir, paper.sections)
    table, _ = evaluation_sections.external_test(study, place)
    tables.print_table(table, 4)
    print(f"report: {page}")
    return _exit_code(table.notes)


@_verb("explain", "--workdir --trial --weights --class --out:folder images", "--workdir=runs/cnmc cells/ --out=maps")
def explain(options: Options) -> int:
    """Show what a trained trial uses in images, and the nearest training images."""
    from alljax import api
    from alljax.report import explanation

    explanation.check_folder(options.out)
    trained = api.load_study(options.workdir, options.trial, options.weights)
    found = trained.explain(options.images, getattr(options, "class"))
    found.save(options.out)
    show(*found.findings, f"{options.out}: {plural(len(found.images), 'image')}", sep="\n")
    return _exit_code(found.dataset.notes)


@_verb("export", "--workdir --trial --weights --format --out:file", "--workdir=runs/cnmc --out=network.onnx")
def export(options: Options) -> None:
    """Write a trial for other programs: a function from images to probabilities, or backbone and head as weights."""
    from alljax.study import ensemble, exports

    kind = options.format or options.out.suffix.removeprefix(".")
    if kind not in exports.FORMATS:
        raise ConfigError(f"{options.out}: give --format={'|'.join(exports.FORMATS)}, or --out such a suffix")
    opened = ensemble.open_ensemble(options.workdir, options.trial, options.weights)
    files.write_bytes(options.out, exports.FORMATS[kind](opened))
    print(f"{options.out}: {opened.trial}, {options.out.stat().st_size / 1e6:,.0f} MB")


@_verb("report", "--workdir shards --verify", "--workdir=runs/quickstart")
def report(options: Options) -> None:
    """Write report.html from the finished trials of a study."""
    from alljax.report import report
    from alljax.study import assessment, results, workdir

    if results.merge_shards(options.workdir, options.shards)["trials"]:
        assessment.evaluate_study(options.workdir)
    if options.verify:
        print(f"{workdir.verify_all(options.workdir)} files are intact")
    print(f"report: {report.write_report(options.workdir, paper.sections)}")


@_verb("power", "--workdir --metric --difference --power --images", "--workdir=runs/cnmc --difference=0.03")
def power(options: Options) -> None:
    """Estimate how many subjects a new study needs, from the variance between those of a finished one."""
    from alljax.report import model_tables, tables
    from alljax.study import results

    study = results.read_study(options.workdir)
    table = model_tables.power_table(study, options.metric, options.difference, options.power, options.images)
    files.write_text(options.workdir / "tables" / "power.csv", tables.to_csv(table))
    tables.print_table(table)


@_verb("features", f"{CONFIG} --out:file", "--config=quickstart --out=f.npz")
def features(options: Options) -> int:
    """Write the features of every image."""
    from alljax.study import predict

    options.problems.report()
    dataset, width = predict.write_features(options.settings, options.out)
    print(f"{options.out}: features {len(dataset.records):,} × {width:,}")
    return _exit_code(dataset.notes)


@_verb("lr-find", f"{CONFIG} --out:file", "--config=finetune:toy --out=rates.csv")
def lr_find(options: Options) -> int:
    """Find a learning rate: train for a few steps with each of several rates."""
    from alljax.study import experiment, sweep, workdir
    from alljax.training import loop, sampling

    options.problems.report()
    trial = sweep.expand(options.settings)[0]
    opened = experiment.open_experiment(trial.config, [trial])
    fold, *_ = sampling.make_fold_rows(trial.config, opened.dataset.labels, opened.num_classes, opened.folds(trial))
    table = loop.find_learning_rate(trial.config, opened.networks[trial.name], opened.images(trial), fold)
    workdir.write_csv(options.out, table)
    print(f"{options.out}: loss of every step\nlowest loss: train.learning_rate={loop.best_rate(table):.3g}")
    return _exit_code(opened.dataset.notes)


@_verb("data verify", "--source --config.KEY --out:json", "--source=C-NMC_Leukemia --out=found.json")
def data_verify(options: Options) -> int:
    """Check that a data set is complete and readable (exit code 1 if it is not)."""
    from alljax.data import audit

    found = audit.verify(options.source, options.words)
    audit.print_verification(found, options.out)
    return 1 if found["problems"] else 0


@_verb("data audit", "--source:all --split --config.KEY --out:json", "--source=C-NMC_Leukemia")
def data_audit(options: Options) -> int:
    """Find duplicates, subjects with several names, and what each protocol, or a split of your own, leaks."""
    from alljax import config
    from alljax.data import audit, readers

    if bool(options.source) == bool(options.split):
        raise ConfigError("give either --source, to audit a data set, or --split, to audit a division of its images")
    if options.split:
        classes = config.load(overrides=options.words).data.classes
        of_split = audit.audit_sides(readers.open_all(str(options.split), classes))
        show(of_split)
        audit.write_findings({"split": str(options.split), **vars(of_split)}, options.out)
        if options.out:
            table = of_split.to_pandas().to_csv(index=False, lineterminator="\n")
            files.write_text(options.out.with_suffix(".csv"), table)
        return 1 if of_split.rows else _exit_code(of_split.notes)
    found = audit.audit(options.source, options.words)
    audit.print_audit(found, options.out)
    if found["error"]:
        raise UserError(found["error"])
    return _exit_code(found["notes"])


@_verb("data prepare", "--source --out:folder", "--source=C-NMC_Leukemia --out=prepared")
def data_prepare(options: Options) -> None:
    """Write C-NMC 2019 as a TFDS data set."""
    from alljax.data import cnmc_tfds

    cnmc_tfds.prepare(options.source, options.out)


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
