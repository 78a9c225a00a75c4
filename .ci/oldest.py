"""Print the oldest versions that pyproject.toml allows, as constraints for pip.

Not of torch, whose other versions are gigabytes. They are for the oldest Python: wheels of some are
not made for newer ones.
"""

import re
import tomllib
from pathlib import Path

EXTRAS = ("mujoco", "test")
LEAST = re.compile(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)")

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"]]
wanted += [each for name in EXTRAS for each in project["optional-dependencies"][name]]
found = [LEAST.match(each) for each in wanted]
print("\n".join(f"{m[1]}=={m[2]}" for m in found if m and m[1] != "torch"))
