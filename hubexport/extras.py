"""The extras of the installation: the packages of each, and the error for one that is missing."""

import importlib.util

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
            fix=f"run pip install 'hubexport[{','.join(lacking)}]'",
        )


def installed_extras() -> list[str]:
    """Returns the names of the extras whose packages are all installed, sorted."""
    return sorted(extra for extra in _PACKAGES if not _missing(extra))


def _missing(extra: str) -> list[str]:
    return [package for package in _PACKAGES[extra] if importlib.util.find_spec(package) is None]
