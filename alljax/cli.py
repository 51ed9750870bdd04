"""The `alljax` command line: arguments, exit codes and errors; `commands` has one function per verb."""

import argparse
import difflib
import importlib.metadata
import os
import platform
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import alljax
from alljax import doctor, files, interrupts, progress, settings
from alljax.commands import VERBS
from alljax.errors import ConfigError, Problems, Stopped, UserError, printable
from alljax.training import distributed

EXIT_CODES = """exit codes: 0 done, or stopped by SIGTERM or SIGUSR1; 1 `data verify` or `doctor` found problems;
    2 user error; 3 done, but some images were unreadable; 130 stopped by Ctrl-C"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line, by default that of this process, and returns its exit code (`EXIT_CODES`)."""
    if arguments is None:
        interrupts.install()
    progress.show_messages()
    try:
        _check_flags(sys.argv[1:] if arguments is None else arguments)
        options, words = _parser().parse_known_args(arguments)
        if options.call is not VERBS["doctor"][0]:  # which reports it, as one of several problems
            doctor.check_versions()
        if hasattr(options, "config"):
            from alljax import config

            options.problems = Problems()  # `alljax study` reports them together with those of the inputs
            options.settings = config.load(options.config, words, options.problems)
        elif words and not hasattr(options, "config.KEY"):
            raise ConfigError(f"unknown argument {words[0]!r}; `alljax --help` lists the commands")
        options.words = words
        return options.call(options) or 0
    except UserError as error:
        print(f"alljax: {printable(error)}", file=sys.stderr)
        return distributed.exit(2)
    except Stopped as stopped:
        sys.stderr.write(f"alljax: {stopped}; the same command resumes\n")
        code = int(os.environ.get("ALLJAX_STOP_CODE", "0"))  # by which launch scripts recognize stopped runs
        return distributed.exit(130 if interrupts.requested == signal.SIGINT else code, together=True)
    except BrokenPipeError:  # the program that read our output has ended, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return distributed.exit(141)


def _check_flags(words: Sequence[str]) -> None:
    """Reports an unknown flag, which argparse would do after a missing argument, and ``--workdir=`` without a value."""
    verb = next((verb for verb in VERBS if list(words[: verb.count(" ") + 1]) == verb.split()), "")
    arguments = VERBS[verb][1] if verb else "--version"
    known = ["-h", "--help", *(argument.partition(":")[0] for argument in arguments.split())]
    for name, equals, value in (word.partition("=") for word in (words if verb else words[:1])):
        if equals and not value and ARGUMENTS.get(name, {}).get("required"):
            raise ConfigError(f"{name} is empty; give it a value")
        setting = name.startswith("--config.") and "--config.KEY" in known
        if re.match("--?[a-z]", name) and name not in known and not setting:
            from alljax import config

            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            if "--config.KEY" in known and not near and (key := config.nearest(name.strip("-"))):
                near = [f"--config.{key}"]
            fix = f"did you mean {near[0]}?" if near else f"see `{' '.join(['alljax', *verb.split()])} --help`"
            raise ConfigError(f"unknown argument {name!r}: {fix}")


class _Parser(argparse.ArgumentParser):
    def __init__(self, **keywords: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **keywords)

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def _path(text: str) -> Path:
    return Path(text).expanduser()  # the shell does not expand ~ after an equals sign


def _output(text: str) -> Path:
    files.check_output(path := _path(text))
    return path


def shard(text: str) -> tuple[int, int]:
    """Parses I/N."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(index), int(count)


def fraction(text: str) -> float:
    """Parses a number between 0 and 1."""
    if not 0 < (value := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--config": {"help": "a config, see `alljax configs`, or a file", "required": True, "metavar": "NAME|FILE[:ARG]"},
    "--config.KEY": {"help": "a setting, as in --config.seed=1 --config.data.classes=normal,blast", "metavar": "VALUE"},
    "--settings": {"help": "list all settings and exit", "action": "version", "version": settings.describe()},
    "--workdir": {"help": "folder of the study", "type": _path, "required": True, "metavar": "FOLDER"},
    "--workdir:several": {"help": "study; of several: the mean", "type": _path, "required": True, "action": "append"},
    "--resume": {"help": "resume unfinished trials although settings have changed", "choices": ["force"]},
    "--shard": {"help": "every Nth training; I is 0 to N - 1", "type": shard, "default": (0, 1), "metavar": "I/N"},
    "--dry_run": {"help": "print what is missing, or the trials and their time; write nothing", "action": "store_true"},
    "--coordinator": {"help": "address of process 0, without a scheduler", "metavar": "HOST:PORT"},
    "--processes": {"help": "number of processes, without a scheduler", "type": int, "metavar": "N"},
    "--process": {"help": "index of this process, without a scheduler", "type": int, "metavar": "I"},
    "--timeout": {"help": "wait for other processes; default: 120", "type": int, "default": 120, "metavar": "SECONDS"},
    "--trial": {"help": "trial of the study; default: that with the highest AUC", "default": "", "metavar": "NAME"},
    "--weights": {"help": "weights of the backbone, if they were moved", "default": "", "metavar": "FILE|FOLDER"},
    "--weights:too": {"help": "also remove downloaded weights", "action": "store_true"},
    "--class": {"help": "class to explain; default: the predicted one", "default": "", "metavar": "NAME"},
    "images": {"help": "images, folders, zips, CSVs or .npz", "nargs": "+", "type": _path, "metavar": "IMAGE|SOURCE"},
    "--robustness": {"help": "also measure it: classify images that are rotated, blurred, ...", "action": "store_true"},
    "--images:most": {"help": "at most, for robustness; default: 200", "type": int, "default": 200, "metavar": "N"},
    "--format": {
        "help": "default: the suffix of --out; for deployment only: JAX reads a stablehlo file for six months",
        "choices": ["onnx", "stablehlo", "safetensors"],
        "default": "",
    },
    "--verify": {"help": "compare all files of the study with their checksums", "action": "store_true"},
    "--metric": {"help": "default: ranks the models", "choices": ["auc", "macro_recall"], "default": ""},
    "--difference": {"help": "difference of the metric; default: %(default)s", "type": fraction, "default": 0.05},
    "--power": {"help": "probability of finding it; default: %(default)s", "type": fraction, "default": 0.8},
    "--images": {"help": "images per subject; default: %(default)s", "type": int, "default": 20, "metavar": "N"},
    "shards": {"help": "folders of shards to merge", "nargs": "*", "type": _path, "metavar": "FOLDER"},
    "--source": {"help": "folder, zip, CSV or .npz of images", "required": True},
    "--source:all": {"help": "folder, zip, CSV or .npz of images", "default": ""},
    "--source:checked": {"help": "also check this folder, zip, CSV or .npz of images", "default": ""},
    "--split": {"help": "CSV with path, label, subject and split (train, test, ...)", "type": _path, "metavar": "CSV"},
    "--source:other": {"help": "test on this folder, zip, CSV or .npz of labeled images", "default": ""},
    "--classes": {"help": "which class of it is which of the study", "default": "", "metavar": "OTHER=OWN,..."},
    "--backbone": {"help": "for example vgg16", "required": True, "metavar": "NAME"},
    "file": {"help": "a weight file", "type": _path, "metavar": "FILE"},
    "name": {"help": "name of a source, see `alljax weights list`", "metavar": "NAME"},
    "name:config": {"help": "name of a config, see `alljax configs`", "metavar": "NAME"},
    "--out:csv": {"help": "default: %(default)s", "type": _output, "default": "predictions.csv", "metavar": "FILE"},
    "--out:json": {"help": "also write all findings to this JSON file", "type": _output, "metavar": "FILE"},
    "--out:file": {"help": "file to write", "type": _output, "required": True, "metavar": "FILE"},
    "--out:folder": {"help": "folder to write", "type": _path, "required": True, "metavar": "FOLDER"},
}


def _parser() -> argparse.ArgumentParser:
    description = "Transfer learning on microscopic images of blood cells."
    parser = _Parser(prog="alljax", description=description, epilog=f"first steps: {VERBS['study'][2]}\n{EXIT_CODES}")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib"))
    version = f"alljax {alljax.__version__} ({versions}, Python {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version, help="show versions and exit")
    groups = {"": parser.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    for verb, (call, arguments, example) in VERBS.items():
        group, _, name = verb.rpartition(" ")
        if group not in groups:
            actions = ", ".join(other.removeprefix(f"{group} ") for other in VERBS if other.startswith(f"{group} "))
            group_parser = groups[""].add_parser(group, help=f"Actions: {actions}.")
            lists = VERBS.get(f"{group} list", ())  # what the group does without an action
            group_parser.set_defaults(call=lists and lists[0])
            groups[group] = group_parser.add_subparsers(title="actions", metavar="ACTION", required=not lists)
        text = call.__doc__
        verb_parser = groups[group].add_parser(name, help=text, description=text, epilog=f"example: {example}")
        verb_parser.set_defaults(call=call)
        for argument in arguments.split():
            verb_parser.add_argument(argument.partition(":")[0], **ARGUMENTS[argument])
    return parser


if __name__ == "__main__":
    sys.exit(main())
