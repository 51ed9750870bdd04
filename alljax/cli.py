"""The `alljax` command: parse, call one function of commands.py, turn what goes wrong into a line and an exit code."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from alljax import commands, files, progress
from alljax.errors import ConfigError, Stopped, UserError
from alljax.training import distributed

EXAMPLES = {
    "study": "alljax study --config=configs/quickstart.py --workdir=runs/quickstart",
    "train": "alljax train --config=configs/quickstart.py --workdir=runs/one --config.train.optimizer=adam",
    "features": "alljax features --config=configs/quickstart.py --out=features.npz",
    "rates": "alljax rates --config=configs/finetune.py:toy --out=rates.csv",
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
    """Runs one command line and returns its exit code: 0, 1 where `data verify` finds fault, 2 for a mistake."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    progress.show_messages()
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # Pillow's; images.decode refuses these
    try:
        parser = _parser()
        options, rest = parser.parse_known_args(arguments)
        options.overrides = _overrides(rest, takes_config=hasattr(options, "config"))
        return options.call(options) or 0
    except UserError as error:
        print(f"alljax: {error}", file=sys.stderr)
        return distributed.exit(2)
    except Stopped as stopped:
        print(f"alljax: {stopped}; the same command goes on from there", file=sys.stderr)
        return int(os.environ.get("ALLJAX_STOP_CODE", "0"))  # launch/ tells a stop from the end by it
    except KeyboardInterrupt:
        print("alljax: stopped; finished models are kept, the same command goes on from there", file=sys.stderr)
        return distributed.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return distributed.exit(141)


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

    study = _verb(verbs, "study", "train and evaluate every model of a study, and write its report", commands.study)
    _config_arguments(study)
    study.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="only runs I, I+N, … of the study, from 0; the budgets of a run stay together",
    )
    study.add_argument(
        "--dry_run", action="store_true", help="print the models, what they share and how long they would take"
    )
    _process_arguments(study)
    train = _verb(verbs, "train", "the same for one model: nothing is varied", commands.train)
    _config_arguments(train)
    _process_arguments(train)
    features = _verb(verbs, "features", "write the backbone's features of every image", commands.features)
    _config_arguments(features, workdir=False)
    features.add_argument("--out", type=_path, required=True, help="the .npz file to write")
    rates = _verb(verbs, "rates", "find a learning rate: a few steps at each of many", commands.rates)
    _config_arguments(rates, workdir=False)
    rates.add_argument("--out", type=_output, required=True, metavar="FILE", help="the loss of every step, as CSV")
    predict = _verb(verbs, "predict", "classify images with the heads of a study", commands.predict)
    predict.add_argument("--workdir", type=_path, required=True, help="the folder of a finished study")
    predict.add_argument(
        "--trial", default="", help="the model of the study that is asked; default: the one with the highest AUC"
    )
    predict.add_argument("--weights", default="", metavar="FILE", help="the backbone's weights, if they were moved")
    predict.add_argument("--out", type=_path, default=Path("predictions.csv"), help="default: %(default)s")
    predict.add_argument("images", nargs="+", type=_path, metavar="IMAGE|DIR")
    report = _verb(verbs, "report", "write report.html from the models that are done", commands.report)
    report.add_argument("--workdir", type=_path, required=True, help="the folder of a study")
    report.add_argument(
        "shards", nargs="*", type=_path, metavar="DIR", help="folders of shards of it, whose models are taken over"
    )
    _data_parser(verbs)
    _weights_parser(verbs)
    return parser


def _data_parser(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    data = verbs.add_parser("data", help="verify, audit and prepare images", allow_abbrev=False)
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = _verb(
        actions, "data verify", "look whether all images are there; if not, exit code 1", commands.data_verify
    )
    audit = _verb(actions, "data audit", "find duplicates, people and what each protocol leaks", commands.data_audit)
    prepare = _verb(actions, "data prepare", "write C-NMC 2019 as a TFDS data set", commands.data_prepare)
    for parser in (verify, audit, prepare):
        parser.add_argument("--source", required=True, help="the images, as data.source takes them")
    for parser in (verify, audit):
        parser.add_argument("--out", type=_output, metavar="FILE", help="write all that is found, as JSON")
    audit.add_argument("--protocol", default="", help="only this one; default: every one that is possible")
    audit.set_defaults(config=None)  # takes --config.key=value
    prepare.add_argument("--out", type=_path, required=True, help="the folder for data sets, TFDS's data_dir")


def _weights_parser(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    weights = verbs.add_parser("weights", help="list, show, port and fetch weight files", allow_abbrev=False)
    actions = weights.add_subparsers(title="actions", metavar="ACTION", required=True)
    _verb(actions, "weights list", "the known sources, and where they are", commands.weights_list)
    show = _verb(actions, "weights show", "what a weight file holds", commands.weights_show)
    show.add_argument("file", type=_path, metavar="FILE")
    port = _verb(
        actions, "weights port", "rewrite a weight file in alljax's layout (.safetensors)", commands.weights_port
    )
    port.add_argument("file", type=_path, metavar="FILE")
    port.add_argument("--backbone", required=True, help="for example vgg16")
    port.add_argument("--out", type=_path, required=True, help="the .safetensors file to write")
    fetch = _verb(actions, "weights fetch", "download a known source and check its hash", commands.weights_fetch)
    fetch.add_argument("name", metavar="NAME", help="as `alljax weights list` shows it")


def _verb(
    verbs: "argparse._SubParsersAction[_Parser]", name: str, summary: str, call: object
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name.rpartition(" ")[2],
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example: {EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(call=call)
    return parser


class _Settings(argparse.Action):
    """``--settings`` prints every config key with its default and meaning."""

    def __call__(self, parser: argparse.ArgumentParser, *ignored: object) -> None:
        from alljax import config

        print("\n".join(config.describe()))
        parser.exit()


def _config_arguments(parser: argparse.ArgumentParser, workdir: bool = True) -> None:
    parser.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a config file, see configs/")
    parser.add_argument("--settings", nargs=0, action=_Settings, help="list every --config.key=value and exit")
    if workdir:
        parser.add_argument("--workdir", type=_path, required=True, help="the folder for the results")
        parser.add_argument("--resume", choices=["force"], help="let runs under way go on with another config")


def _process_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several processes", "found by themselves under Slurm, Open MPI and on Cloud TPU")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; the port is one that is free there")
    group.add_argument("--processes", type=int, metavar="N", help="how many processes are started")
    group.add_argument("--process", type=int, metavar="I", help="which of them this one is, from 0")


def _path(text: str) -> Path:
    """Reads a path; the shell leaves ``~`` alone behind an equals sign."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or folder")
    return Path(text).expanduser()


def _shard(text: str) -> tuple[int, int]:
    """Reads ``i/n``."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"is {text!r}; write I/N with I from 0 to N-1, for example 0/4")
    return int(index), int(count)


def _output(text: str) -> Path:
    """Reads the path of a file that is written after long work."""
    files.check_output(path := _path(text))
    return path


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


if __name__ == "__main__":
    sys.exit(main())
