"""Print the commands of README's section "Two commands", each on a line of its own."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def commands() -> list[str]:
    """Return what the section's bash blocks hold, in order."""
    section = README.read_text(encoding="utf-8").split("\n## Two commands\n")[1].split("\n## ")[0]
    return [block.strip() for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)]


if __name__ == "__main__":
    print("\n".join(commands()))
