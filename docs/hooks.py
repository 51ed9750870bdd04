"""Hooks of MkDocs: fill `<!-- generated: NAME -->` in pages from the package; warn of files from other servers."""

import argparse
import inspect
import itertools
import json
import logging
import re
import typing
from collections.abc import Iterator
from typing import Any

import griffe
from mkdocs.structure.files import File

import alljax
from alljax import cli, errors
from alljax.report.explanation import DrawnExplanation
from alljax.settings import SETTINGS, TYPE_NAMES

log = logging.getLogger("mkdocs.plugins.alljax")

# Elements that make a browser fetch a file when it opens a page; a link is followed only by its reader.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'>\s]+"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^"'>\s]+|@import[^;]*//[^;]+"""
)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills the generated parts of a page; links to notebooks, which work in the repository, go to their pages."""
    if not page.file.generated_by:  # else a notebook, which links to its own file
        markdown = markdown.replace(".ipynb)", ".md)")
    return re.sub(r"<!-- generated: (\w+) -->", lambda match: "\n".join(GENERATED[match[1]]()), markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warns, which is an error, of whatever a browser would fetch from another server."""
    for found in FETCHED.findall(output):
        log.warning("%s: the page fetches %s", page.file.src_uri, found)
    return output


def settings() -> Iterator[str]:
    """Yields a table per group of settings."""
    group = None
    for key in sorted(SETTINGS, key=lambda key: "." in key):  # those without a group first
        setting = SETTINGS[key]
        if (prefix := key.partition(".")[0] if "." in key else "general") != group:
            group = prefix
            yield f"\n## {group}\n\n| setting | default | | values |\n|---|---|---|---|"
        choices = ", ".join(f"`{choice}`" for choice in setting.choices if choice)
        valid = choices or setting.range or TYPE_NAMES[type(setting.default)]
        yield _row(f"`{key}`", f"`{setting.default!r}`", setting.help, valid)


def commands() -> Iterator[str]:
    """Yields a section per command, from the parser of the command line."""
    yield from _section(cli._parser())
    yield f"\n## Exit codes\n\n{cli.EXIT_CODES.partition(':')[2].strip()}."


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in subparsers:
        for child in action.choices.values():
            yield from _section(child)
    if subparsers:
        return
    yield f"\n## {parser.prog}\n\n{parser.description}\n"
    example = (parser.epilog or "").partition(": ")[2]
    yield f"```bash\n{example}\n```\n\n| argument | |\n|---|---|"
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.dest in ("help", "version"):
            continue
        invocation = formatter._format_action_invocation(action) if action.option_strings else str(action.metavar)
        required = "**required**; " if action.required and action.option_strings else ""
        text = formatter._expand_help(action)
        yield _row(f"`{invocation}`", required + text)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def api() -> Iterator[str]:
    """Yields the documentation of each public name, of the classes that the functions return, and of the errors."""
    members = {f"alljax.{name}": getattr(alljax, name) for name in alljax.__all__ if name != "__version__"}
    for heading in sorted(members, key=str.lower):
        yield from _documented(members[heading], heading)
    found = [_classes(typing.get_type_hints(member).get("return")) for member in members.values()]
    returned = {*itertools.chain(*found), DrawnExplanation} - {*members.values()}
    yield "\n## Results\n\nWhat these functions return.\n"
    for each in sorted(returned, key=lambda each: each.__name__):
        yield from _documented(each, each.__name__, level=3)
    yield "\n## Errors\n\nThe command line prints them as one line with exit code 2.\n"
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.UserError):
            yield from _documented(each, each.__name__, level=3)


def _classes(kind: Any) -> Iterator[type]:
    """Yields the classes of alljax in an annotation."""
    if isinstance(kind, type) and kind.__module__.startswith("alljax"):
        yield kind
    for part in typing.get_args(kind):
        yield from _classes(part)


def _documented(member: Any, heading: str, level: int = 2) -> Iterator[str]:
    options = {"heading": heading, "toc_label": heading, "heading_level": level}
    yield f"\n::: {member.__module__}.{member.__qualname__}\n    options: {json.dumps(options)}\n"


GENERATED = {"settings": settings, "commands": commands, "api": api}


class Docstrings(griffe.Extension):
    """Shows examples (``>>>``) as code, and defaults that are computed as their values."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Puts a fence around each example."""
        if obj.docstring:
            examples = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)
            obj.docstring.value = examples.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replaces the defaults of the parameters of a public class."""
        public = getattr(alljax, cls.name) if cls.name in alljax.__all__ else None
        for name, parameter in inspect.signature(public).parameters.items() if public else ():
            cls.members["__init__"].parameters[name].default = repr(parameter.default)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Adds a page for each notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = file.src_uri.replace(".ipynb", ".md")
        text = notebook(json.loads(file.content_string), file.name)
        files.append(File.generated(config, page, content=text))
    return files


def notebook(cells: dict[str, Any], name: str) -> str:
    """Returns the cells of a notebook and their stored outputs as Markdown; figures are part of the page."""
    title, *rest = [text for cell in cells["cells"] for text in _cell(cell)]
    return "\n\n".join([title, f"[Download the notebook]({name}.ipynb)", *rest])


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    """Yields the source of a cell and what it displays: a figure, else a table, else text."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data") or {"text/plain": output["text"]}
        shown = {kind: "".join(content) for kind, content in data.items()}
        if "image/png" in shown:
            yield f'<img alt="figure" src="data:image/png;base64,{shown["image/png"].replace(chr(10), "")}">'
        elif "text/html" in shown:
            plain = re.sub(r"<style.*?</style>| style=\"[^\"]*\"", "", shown["text/html"], flags=re.DOTALL)
            yield re.sub("<table[^>]*>", "<table>", plain)  # in the style of the site
        else:
            yield f"```text\n{shown['text/plain']}\n```"
