"""Hooks of MkDocs: fill `<!-- generated: NAME -->` in pages from the package; warn of files from other servers."""

import argparse
import importlib
import logging
import re
from collections.abc import Iterator
from typing import Any

import alljax
from alljax import cli
from alljax.settings import SETTINGS, TYPE_NAMES

log = logging.getLogger("mkdocs.plugins.alljax")

# Elements that make a browser fetch a file when it opens a page; a link is followed only by its reader.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'>\s]+"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^"'>\s]+|@import[^;]*//[^;]+"""
)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills the generated parts of a page."""
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
    """Yields the documentation of each public name and of the classes that the functions return."""
    for name in sorted(set(alljax.__all__) - {"__version__"}, key=str.lower):
        yield _documented(f"alljax.{name}", getattr(alljax, name))


def _documented(heading: str, member: Any) -> str:
    place = f"{importlib.import_module(member.__module__).__name__}.{member.__qualname__}"
    options = f'    options:\n      heading: "{heading}"\n      toc_label: "{heading}"'
    return f"\n::: {place}\n{options}\n"


GENERATED = {"settings": settings, "commands": commands, "api": api}
