"""The `alljax` command: parse, call one function, print.

Rooms are imported when their verb is called, so that ``alljax --help`` starts at once.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from alljax.errors import ConfigError, Stopped, UserError

EXAMPLES = {
    "study": "alljax study --config=configs/quickstart.py --workdir=runs/quickstart",
    "train": "alljax train --config=configs/quickstart.py --workdir=runs/one --config.train.optimizer=adam",
    "features": "alljax features --config=configs/quickstart.py --out=features.npz",
    "predict": "alljax predict --workdir=runs/quickstart my_cells/ --out=predictions.csv",
    "report": "alljax report --workdir=runs/quickstart",
    "data prepare": "alljax data prepare --source=C-NMC_Leukemia --out=prepared",
    "data verify": "alljax data verify --source=C-NMC_Leukemia --out=found.json",
    "data audit": "alljax data audit --source=C-NMC_Leukemia --protocol=official_folds_by_name",
    "weights": "alljax weights list",
    "weights list": "alljax weights list",
    "weights show": "alljax weights show vgg16-397923af.pth",
    "weights port": "alljax weights port vgg16-397923af.pth --backbone=vgg16 --out=vgg16.safetensors",
    "weights fetch": "alljax weights fetch torchvision-vgg16",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code: 0, 2 for a mistake a person can mend, 1 where it says so."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser = _parser()
        options, rest = parser.parse_known_args(arguments)
        options.overrides = _overrides(rest, takes_config=hasattr(options, "config"))
        return options.call(options) or 0
    except UserError as error:
        print(f"alljax: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"alljax: {stopped}; the same command goes on from there", file=sys.stderr)
    except KeyboardInterrupt:
        print("alljax: stopped; finished models are kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}; `{self.prog} --help` shows how")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="alljax",
        description="Transfer learning on microscopic blood cells.",
        epilog=f"Begin with: {EXAMPLES['study']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    study = _verb(verbs, "study", "train and evaluate every model of a study, and write its report", _study)
    _config_arguments(study)
    train = _verb(verbs, "train", "the same for one model: nothing is varied", _train)
    _config_arguments(train)
    features = _verb(verbs, "features", "write the backbone's features of every image", _features)
    _config_arguments(features, workdir=False)
    features.add_argument("--out", type=_path, required=True, help="the .npz file to write")
    predict = _verb(verbs, "predict", "classify images with the heads of a study", _predict)
    predict.add_argument("--workdir", type=_path, required=True, help="the folder of a finished study")
    predict.add_argument(
        "--cell", default="", help="the model of the study that is asked; default: the one with the highest AUC"
    )
    predict.add_argument("--weights", default="", metavar="FILE", help="the backbone's weights, if they were moved")
    predict.add_argument("--out", type=_path, default=Path("predictions.csv"), help="default: %(default)s")
    predict.add_argument("images", nargs="+", type=_path, metavar="IMAGE|DIR")
    report = _verb(verbs, "report", "write report.html anew from a study's files", _report)
    report.add_argument("--workdir", type=_path, required=True, help="the folder of a finished study")
    _data_parser(verbs)
    _weights_parser(verbs)
    return parser


def _data_parser(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    data = verbs.add_parser("data", help="verify, audit and prepare images", allow_abbrev=False)
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = _verb(actions, "verify", "look whether all images are there; exit code 1 if not", _data_verify, "data ")
    audit = _verb(actions, "audit", "find duplicates, people and what each protocol leaks", _data_audit, "data ")
    prepare = _verb(actions, "prepare", "write C-NMC 2019 as a TFDS data set", _data_prepare, "data ")
    for parser in (verify, audit, prepare):
        parser.add_argument("--source", required=True, help="the images, as data.source takes them")
    for parser in (verify, audit):
        parser.add_argument("--out", type=_path, metavar="FILE", help="write all that is found, as JSON")
    audit.add_argument("--protocol", help="only this one, and exit code 2 where it is not possible; default: all")
    audit.add_argument("--knobs", nargs=0, action=_Knobs, help="list every --config.key=value and exit")
    audit.set_defaults(config=None)  # takes --config.key=value
    prepare.add_argument("--out", type=_path, required=True, help="the folder for data sets, TFDS's data_dir")


def _weights_parser(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    weights = verbs.add_parser("weights", help="list, show, port and fetch weight files", allow_abbrev=False)
    actions = weights.add_subparsers(title="actions", metavar="ACTION", required=True)
    _verb(actions, "list", "the known sources, and where they are", _weights_list, "weights ")
    show = _verb(actions, "show", "what a weight file holds", _weights_show, "weights ")
    show.add_argument("file", type=_path, metavar="FILE")
    port = _verb(
        actions,
        "port",
        "rewrite a weight file in alljax's own layout (.safetensors)",
        _weights_port,
        "weights ",
    )
    port.add_argument("file", type=_path, metavar="FILE")
    port.add_argument("--backbone", required=True, help="for example vgg16")
    port.add_argument("--out", type=_path, required=True, help="the .safetensors file to write")
    fetch = _verb(actions, "fetch", "download a known source and check its hash", _weights_fetch, "weights ")
    fetch.add_argument("name", metavar="NAME", help="as `alljax weights list` shows it")


def _verb(
    verbs: "argparse._SubParsersAction[_Parser]", name: str, summary: str, call: object, group: str = ""
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example: {EXAMPLES[group + name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(call=call)
    return parser


class _Knobs(argparse.Action):
    """``--knobs`` prints every config key with its default and meaning."""

    def __call__(self, parser: argparse.ArgumentParser, *ignored: object) -> None:
        from alljax import config

        print("\n".join(config.describe()))
        parser.exit()


def _config_arguments(parser: argparse.ArgumentParser, workdir: bool = True) -> None:
    parser.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a config file, see configs/")
    parser.add_argument("--knobs", nargs=0, action=_Knobs, help="list every --config.key=value and exit")
    if workdir:
        parser.add_argument("--workdir", type=_path, required=True, help="the folder for the results")


def _path(text: str) -> Path:
    """Reads a path; the shell leaves ``~`` alone behind an equals sign."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or folder")
    return Path(text).expanduser()


def _overrides(rest: Sequence[str], takes_config: bool) -> list[tuple[str, str]]:
    """Reads ``--config.key=value`` and ``--config.key value``; anything else is unknown."""
    pairs, words = [], list(rest)
    while words:
        word = words.pop(0)
        if not (takes_config and word.startswith("--config.")):
            raise ConfigError(f"unknown argument {word!r}; `alljax --help` shows the commands and what they take")
        key, given, value = word.removeprefix("--config.").partition("=")
        if not given:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"{word} has no value; write {word}=VALUE")
            value = words.pop(0)
        pairs.append((key, value))
    return pairs


def _study(options: argparse.Namespace) -> None:
    from alljax import config

    settings = config.load(options.config, options.overrides)  # a typo is told before the slow imports

    from alljax.study import report, run

    summary = run.run_study(settings, options.workdir, _say)
    report.show(summary)
    _say(f"\nThe report: {options.workdir / 'report.html'}")
    if settings.data.source == "synthetic":
        _say(
            "These cells were generated. For your own images (a folder a class, inside it a folder a person), type\n"
            f"  {_program()} study --config={options.config} --workdir=runs/mine --config.data.source=YOUR_FOLDER"
        )
    else:
        _say(f"New images: {_program()} predict --workdir={options.workdir} IMAGE_OR_FOLDER --out=predictions.csv")


def _train(options: argparse.Namespace) -> None:
    if any(key == "study.vary" for key, _ in options.overrides):
        raise ConfigError("`alljax train` varies nothing; use `alljax study` with --config.study.vary")
    options.overrides.append(("study.vary", "()"))
    _study(options)


def _features(options: argparse.Namespace) -> None:
    from alljax import config

    settings = config.load(options.config, options.overrides)

    from alljax.study import run

    shape = run.write_features(settings, options.out, _say)
    _say(f"{options.out}: features {shape[0]:,} × {shape[1]:,}")


def _predict(options: argparse.Namespace) -> None:
    from alljax.study import predict

    count = predict.predict(options.workdir, options.cell, options.weights, options.images, options.out, _say)
    _say(f"{options.out}: {count:,} images")


def _report(options: argparse.Namespace) -> None:
    from alljax.study import report

    _say(f"The report: {report.write_report(options.workdir)}")


def _data_verify(options: argparse.Namespace) -> int:
    from alljax.data import verify

    _check_output(options.out)
    found = verify.verify(options.source)
    verify.show(found)
    if options.out:
        verify.write(found, options.out)
    return 1 if found.problems else 0


def _data_audit(options: argparse.Namespace) -> None:
    from alljax import config

    asked = [("split.protocol", options.protocol)] if options.protocol is not None else []
    changes = [*options.overrides, ("data.source", options.source), *asked]
    values = {key: config._parse(key, config._knob(key), text) for key, text in changes}
    settings = config.unflatten(config.flatten(config.default_config()) | values)
    _check_output(options.out)

    from alljax.data import audit

    found = audit.audit(settings, [options.protocol] if asked else [])
    audit.show(found)
    if options.out:
        audit.write(found, options.out)
    if found.error:
        raise found.error


def _data_prepare(options: argparse.Namespace) -> None:
    from alljax.data import prepare

    prepare.prepare(options.source, options.out, _say)


def _weights_list(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from alljax.weights import store

    table = Table("name", "backbone", "size", "classifier", "licence", "where", box=None, header_style="bold")
    for listed in store.listing():
        source = listed.source
        size = f"{source.bytes / 1e6:,.0f} MB" if source.bytes else "?"
        classifier = "yes" if source.classifier else "no"
        table.add_row(source.name, source.backbone, size, classifier, source.licence, listed.place)
    table.columns[0].no_wrap = True  # the names are what `fetch` takes
    table.columns[0].min_width = max(len(listed.source.name) for listed in store.listing())
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _weights_show(options: argparse.Namespace) -> None:
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


def _weights_port(options: argparse.Namespace) -> None:
    from alljax.weights import rewrite

    count = rewrite.rewrite(options.file, options.backbone, options.out)
    _say(f"{options.out}: {count:,} parameters and statistics of {options.backbone}")


def _weights_fetch(options: argparse.Namespace) -> None:
    from alljax.weights import store

    fetched = store.fetch(options.name)
    _say(f"{fetched.path}: SHA-256 {fetched.sha256}" + (f" ({fetched.note})" if fetched.note else ""))


def _check_output(out: Path | None) -> None:
    if out:
        from alljax.study import workdir

        workdir.check_output(out)


def _program() -> str:
    """Returns what a person must type to call us: ``alljax``, or the way to it where it is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name != "alljax" or shutil.which("alljax") == str(called.absolute()):
        return "alljax"
    return os.path.relpath(called) if called.absolute().is_relative_to(Path.cwd()) else str(called)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
