"""What the modules that can be run by hand (`python -m bsqcodec.training.<module>`) have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bsqcodec.errors import BsqError


def finish(main: Callable[[], None]) -> None:
    """Run a module's main and leave the process: errors raised on purpose become one line and their exit code."""
    try:
        main()
    except BsqError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
