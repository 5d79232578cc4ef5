"""What mkdocs calls while it builds: pages and pictures made from the code are added, tables filled in."""

from __future__ import annotations

import generate
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and pictures."""
    made = {path: page() for path, page in generate.PAGES.items()} | dict(generate.pictures())
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in the tables that a page asks for."""
    return generate.filled(markdown)
