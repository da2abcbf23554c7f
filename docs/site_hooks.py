"""Hooks of mkdocs: pages that live outside of docs/ join the site, and links to what does not join it lose their link.

The same files are read on a code host, where `../tests/…` leads somewhere; a site holds pages only. With `repo_url` in
mkdocs.yml those links would lead to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
DOCS_DIR = ROOT / DOCS
# Beside docs/: these become part of the site under the same names.
JOINING = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/*/*")
LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^)\s]+)\)")
CELL = re.compile(r"<td>.*?</td>", re.DOTALL)
FENCE = re.compile(r"^( {0,4}```.*?^ {0,4}```)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the names of files where the navigation has a pattern."""
    config.nav = [_expanded(item) for item in config.nav or ()]
    return config


def _expanded(item: Any) -> Any:
    match item:
        case dict():
            return {title: _expanded(inner) for title, inner in item.items()}
        case list():
            return [_expanded(inner) for inner in item]
        case str() if "*" in item:
            roots = (DOCS_DIR, ROOT)
            return sorted(path.relative_to(root).as_posix() for root in roots for path in root.glob(item))
        case _:
            return item


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what joins."""
    for pattern in JOINING:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links between docs/ and the rest of the repository to where the files are in the site."""
    parts = FENCE.split(markdown)
    return "".join(
        part if number % 2 else _lead(part, page.file.src_uri, config, files) for number, part in enumerate(parts)
    )


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' names
    """A bar is escaped in a table's cell, for code hosts; in code the escape would be seen here."""
    return CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def _lead(text: str, source: str, config: MkDocsConfig, files: Files) -> str:
    here = posixpath.dirname(source)
    place = posixpath.dirname(in_repository(source))

    def replaced(match: re.Match[str]) -> str:
        link, (target, _, anchor) = match["text"], match["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(place, target))
        name = in_site(path)
        if files.get_file_from_path(name) is None and (ROOT / path / "README.md").exists():
            name = f"{name}/README.md"
        if files.get_file_from_path(name) is not None:
            there = posixpath.relpath(name, here or ".")
            return f"{link}({there}{'#' if anchor else ''}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # a mistake, which mkdocs will tell
        if config.repo_url:
            return f"{link}({config.repo_url.rstrip('/')}/blob/main/{path})"
        return link[1:-1]

    return LINK.sub(replaced, text)


def in_repository(name: str) -> str:
    """Where a file of the site is in the repository."""
    return name if (ROOT / name).exists() and not (ROOT / DOCS / name).exists() else DOCS + name


def in_site(path: str) -> str:
    """Where a file of the repository is in the site."""
    return path.removeprefix(DOCS)
