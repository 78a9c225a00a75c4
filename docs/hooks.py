"""Puts the source files that pages link to into the built site, where the links lead."""

import re
import shutil
from pathlib import Path

PAGES = Path(__file__).parent


def on_post_build(config):
    """Called by mkdocs, see ``hooks`` in mkdocs.yml."""
    pages = (page.read_text() for page in PAGES.rglob("*.md"))
    linked = {name for page in pages for name in re.findall(r"\]\((?:\.\./)+([^)#]+\.py)", page)}
    for name in linked:
        copy = Path(config["site_dir"], name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PAGES.parent / name, copy)
