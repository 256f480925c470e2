"""The extras of the installation: the packages of each, and the error for one that is missing."""

from collections.abc import Sequence
import importlib.util
import json
from pathlib import Path
import shlex
from urllib.parse import unquote, urlsplit

from hubexport.errors import MissingExtraError

# The packages to import of each extra in setup.cfg; tests/test_extras.py compares the two.
_PACKAGES = {
    "tensorflow": ("jinja2", "markupsafe", "matplotlib", "PIL", "tensorflow", "tensorflow_hub", "tf_slim"),
    "release": ("cyclonedx", "deflate", "jinja2", "packageurl"),
    "serve": (
        "anyio",
        "httptools",
        "jinja2",
        "markdown_it",
        "markupsafe",
        "matplotlib",
        "PIL",
        "prometheus_client",
        "pygments",
        "python_multipart",
        "starlette",
        "uvicorn",
    ),
    "beam": ("apache_beam",),
    "onnx": ("onnx", "onnxruntime", "PIL"),
    "tflite": ("flatbuffers", "tflite"),
    "parquet": ("pyarrow",),
}


def require_extras(needed_for: str, *extras: str) -> None:
    """Checks that the packages of some extras are installed, without importing them.

    Args:
        needed_for: what needs the extras, as the subject of a sentence, like "hubexport serve".
        extras: names of extras in setup.cfg.
    Raises:
        MissingExtraError: packages are missing; the error has the pip command that installs them.
    """
    lacking = sorted(extra for extra in extras if _missing(extra))
    if lacking:
        packages = dict.fromkeys(package for extra in lacking for package in _missing(extra))
        raise MissingExtraError(
            f"{needed_for} needs the optional packages of {' and '.join(f'[{extra}]' for extra in lacking)}",
            why=f"not installed: {', '.join(packages)}",
            fix=f"run {install_command(lacking)}",
        )


def install_command(extras: Sequence[str]) -> str:
    """Returns the pip command that adds extras to this installation: from the folder or file that it came from."""
    path, option = _installed_from()
    source = f"{path or 'hubexport'}[{','.join(extras)}]"
    return f"pip install {option}{shlex.quote(source)}"


def _installed_from() -> tuple[Path | None, str]:
    """Returns the folder or file that pip installed hubexport from, and the option that pip then needs.

    pip notes the place in `direct_url.json`, and nothing if the package came from an index.
    """
    import importlib.metadata  # Slow, and for errors alone.

    # A checkout has a record without a note as well.
    records = (one.read_text("direct_url.json") for one in importlib.metadata.distributions(name="hubexport"))
    noted = json.loads(next(filter(None, records), "{}"))
    url = urlsplit(noted.get("url", ""))
    path = Path(unquote(url.path))
    if url.scheme != "file" or not path.exists():
        return None, ""
    return path, "--editable " * bool(noted.get("dir_info", {}).get("editable"))


def installed_extras() -> list[str]:
    """Returns the names of the extras whose packages are all installed, sorted."""
    return sorted(extra for extra in _PACKAGES if not _missing(extra))


def _missing(extra: str) -> list[str]:
    return [package for package in _PACKAGES[extra] if importlib.util.find_spec(package) is None]
