"""Where hubexport keeps what would take long to download or make again."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Returns `$HUBEXPORT_CACHE_DIR`, or `hubexport` in the user's cache folder; it need not exist yet."""
    return Path(os.environ.get("HUBEXPORT_CACHE_DIR") or platformdirs.user_cache_dir("hubexport"))
