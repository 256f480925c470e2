"""Reads the state file of a folder of checkpoints, in which TensorFlow writes which one is the latest."""

from pathlib import Path
import re

from google.protobuf import text_format

from hubexport.protos import CheckpointState
from hubexport.system.regular_files import read_regular_file

# What tf.train.Saver and tf.train.CheckpointManager call it.
STATE_FILE = "checkpoint"

# A name may be absolute, of another machine, and of Windows.
_SEPARATORS = re.compile(r"[/\\]")
# A training that keeps 10,000 checkpoints lists them all, in 1 MB.
_MAX_BYTES = 16 << 20


def latest_checkpoint(directory: Path) -> str | None:
    """Returns the name of the latest checkpoint, without folders: the whole folder may have been moved.

    Returns:
        None if there is no state file, or it is none that TensorFlow wrote.
    Raises:
        OSError: the state file cannot be read.
    """
    path = directory / STATE_FILE
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return None
    content = read_regular_file(path, _MAX_BYTES)
    try:
        state = text_format.Parse(content, CheckpointState(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError):
        return None
    return _SEPARATORS.split(state.model_checkpoint_path)[-1] or None
