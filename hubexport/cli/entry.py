"""The entry point of the process. It imports little, so that Ctrl-C ends it silently from the first moment on."""

import os
import signal
import sys
from typing import NoReturn

# The exit status that shells report after SIGINT: 128 + the signal's number.
_INTERRUPTED = 130


def run() -> NoReturn:
    """Runs hubexport with the arguments of this process, and exits."""
    handler = signal.getsignal(signal.SIGINT)
    # An import that is interrupted by an exception may report something else. There is nothing to clean up yet. Where
    # SIGINT is ignored, as in scripts' background jobs, it stays so.
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from hubexport.cli import main

    try:
        signal.signal(signal.SIGINT, handler)
        main.run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
