"""What the commands share: errors that a person caused end in one line, not in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from meta_rl.errors import InputError


def run_command(main: Callable[[list[str]], None]) -> None:
    """Run a command's main; InputError becomes one line on stderr and exit status 2."""
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
