"""The commands that README and docs show, as a shell would see them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def list_blocks(page, *languages):
    """Fenced blocks in one of the languages; the empty one is a shell's."""
    return [text for word, text in FENCE.findall(page.read_text("utf-8")) if word in languages]


def list_commands(page):
    """Each command line of a page's shell blocks, without comments and pipes."""
    lines = "".join(list_blocks(page, "", "sh")).replace("\\\n", " ").splitlines()
    commands = (re.split(r"\s+#|\s[|>]\s", line)[0].strip() for line in lines)
    return [re.sub(r"\s+", " ", command) for command in commands if command]


def find_commands(program):
    """(page's name, words) of each command of a program on any page."""
    return [
        (page.name, shlex.split(command)[1:])
        for page in PAGES
        for command in list_commands(page)
        if command.split()[0] == program
    ]
