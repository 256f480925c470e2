"""The TF.js that pages load to classify photographs: a file of the npm package, which the owner of a site provides."""

from pathlib import Path
import re

from hubexport.errors import UsageError
from hubexport.system.regular_files import read_regular_file

# In the folder of the package.
_IN_PACKAGE = Path("dist", "tf.es2017.min.js")
# Twice the size of the largest variant, which is not minified.
_MAX_BYTES = 16 << 20
# It defines the global name `tf`. The package's modules and its script for Node do not.
_DEFINES_TF = re.compile(rb"\.tf ?=")
# The Content-Security-Policy of pages forbids programs made of text, which variants for old browsers need.
_EVALUATES_TEXT = re.compile(rb"[^\w$.]Function\(")


def read_tfjs_runtime(path: Path) -> bytes:
    """Reads TF.js.

    Args:
        path: the file `tf.es2017.min.js`, or the folder of the npm package `@tensorflow/tfjs`.
    Raises:
        UsageError: the file cannot be read, or is another one.
    """
    file = path / _IN_PACKAGE if path.is_dir() else path
    try:
        content = read_regular_file(file, _MAX_BYTES)
    except OSError as error:
        raise _unusable(path, f"{file}: {error.strerror}") from error
    if b"loadGraphModel" not in content or not _DEFINES_TF.search(content):
        raise _unusable(path, f"{file} is not a script that defines tf with loadGraphModel")
    if _EVALUATES_TEXT.search(content):
        raise _unusable(path, f"{file} runs text as a program, which the pages' Content-Security-Policy forbids")
    return content


def _unusable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"--tfjs {path}: not a TF.js that pages can use",
        why=why,
        fix="run `npm install @tensorflow/tfjs`, and pass --tfjs node_modules/@tensorflow/tfjs",
    )
