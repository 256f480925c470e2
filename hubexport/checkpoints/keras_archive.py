"""Reads Keras' `.keras` files: zip archives of a model's description and its weights in HDF5.

Nothing that a zip archive claims is trusted. Keras stores its members uncompressed, so only stored or deflated members
of a plausible size are read.
"""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import zipfile

from hubexport.checkpoints.containers import KERAS_WEIGHTS
from hubexport.system.damage import DamageError

_CONFIG = "config.json"
# The description of a MobileNet V2 takes 120 KB.
_MAX_CONFIG_BYTES = 16 << 20
# A small archive must not fill the disk. Trained weights hardly compress, and no image network has 4 GiB of them.
_MAX_EXPANSION = 16
_MIN_WEIGHTS_LIMIT_BYTES = 64 << 20
_MAX_WEIGHTS_BYTES = 4 << 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_CHUNK_BYTES = 1 << 20


class KerasArchive:
    """An open `.keras` file.

    Raises:
        DamageError: the file is not a zip archive.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        plausible = max(_MIN_WEIGHTS_LIMIT_BYTES, _MAX_EXPANSION * path.stat().st_size)
        self._max_weights_bytes = min(_MAX_WEIGHTS_BYTES, plausible)
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError:
            raise
        except Exception as error:  # zipfile raises any kind of exception for damage.
            raise DamageError(f"it is a damaged zip archive: {error}") from error

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def model_config(self) -> str | None:
        """Returns the model's description in JSON; None if the archive has none.

        Raises:
            DamageError: the description is damaged.
        """
        if _CONFIG not in self._archive.namelist():
            return None
        return b"".join(self._chunks(_CONFIG, _MAX_CONFIG_BYTES)).decode(errors="replace")

    def unpack_weights(self, folder: Path) -> Path:
        """Copies the weights' HDF5 file into a folder.

        Raises:
            DamageError: the weights are damaged, or implausibly large.
            OSError: the copy cannot be written.
        """
        path = folder / KERAS_WEIGHTS
        with path.open("xb") as file:
            for chunk in self._chunks(KERAS_WEIGHTS, self._max_weights_bytes):
                file.write(chunk)
        return path

    def _chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        members = [member for member in self._archive.infolist() if member.filename == name]
        if len(members) != 1:
            raise DamageError(f"it holds {len(members)} members {name}")
        [member] = members
        if member.compress_type not in _METHODS or member.flag_bits & _ENCRYPTED:
            raise DamageError(f"its {name} is encrypted, or compressed in another way than deflate")
        # zipfile never reads more from a member than its header says.
        if member.file_size > max_bytes:
            raise DamageError(f"its {name} unpacks to more than {max_bytes:,} bytes")
        with _damage_reported(name):
            packed = self._archive.open(member)
        with packed:
            while True:
                with _damage_reported(name):
                    chunk = packed.read(_CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk


@contextlib.contextmanager
def _damage_reported(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile and its decompressors raise any kind of exception for damage.
        raise DamageError(f"its {name} cannot be unpacked: {error}") from error
