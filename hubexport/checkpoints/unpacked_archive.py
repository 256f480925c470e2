"""Finds the checkpoint in an archive, once the files of its checkpoints are unpacked."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path, PurePosixPath

from hubexport.checkpoints.archives import module_of
from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.checkpoint_folders import (
    HUGGING_FACE_WEIGHTS,
    checkpoints_in_directory,
    files_of,
    latest_of,
    not_one_error,
    shortened_list,
)
from hubexport.errors import CheckpointError, printable
from hubexport.readable_numbers import natural_key

# How the names of files end that hubexport reads, but not in archives.
_READ_UNPACKED = (".safetensors", ".keras", ".h5")


@dataclasses.dataclass(frozen=True)
class UnpackedArchive:
    """An archive whose files of checkpoints are unpacked.

    Attributes:
        archive: the archive, for messages.
        folder: where its files of checkpoints are, under their paths in the archive.
        paths: the paths of everything that the archive holds.
        takes_variant: whether the command takes a variant, whose config may name a checkpoint in the archive.
    """

    archive: Path
    folder: Path
    paths: Sequence[PurePosixPath]
    takes_variant: bool

    def prefixes(self) -> dict[str, Path]:
        """Returns the prefix of each checkpoint, by its path in the archive."""
        folders = {self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())}
        found = [path for folder in folders for path in checkpoints_in_directory(folder).values()]
        in_archive = {str(path.relative_to(self.folder)): path for path in found}
        return {name: in_archive[name] for name in sorted(in_archive, key=natural_key)}

    def files(self, name: str | None) -> CheckpointFiles:
        """Finds the files of one checkpoint.

        Of several in one folder, it is the one that the state file of the training there calls the latest.

        Args:
            name: the name of the wanted checkpoint, without folders. If it is None or not there, the archive must have
                only one.
        Raises:
            CheckpointError: the archive holds no checkpoint, or several and nothing tells which is meant.
            OSError: the unpacked files cannot be read.
        """
        there = self.prefixes()
        if not there:
            raise self._nothing_there_error()
        chosen = {within: path for within, path in there.items() if path.name == name}
        if not chosen:
            for folder in {path.parent for path in there.values()}:
                chosen |= latest_of(folder, {within: path for within, path in there.items() if path.parent == folder})
        if len(chosen) != 1:
            first = next((within for within, path in there.items() if not self._is_in_module(path)), [*there][0])
            variant = ", or pass a --variant whose config names it" * self.takes_variant
            fix = f"unpack it, and use the prefix of one, like DIRECTORY/{printable(first)}{variant}"
            raise not_one_error(self.archive, there, fix=fix)
        [prefix] = chosen.values()
        return dataclasses.replace(files_of(prefix), in_module=self._is_in_module(prefix))

    def _is_in_module(self, prefix: Path) -> bool:
        return module_of(PurePosixPath(prefix.relative_to(self.folder)), self.paths) is not None

    def _nothing_there_error(self) -> CheckpointError:
        names = sorted(map(str, self.paths), key=natural_key)
        fix = "use an archive with the files of a checkpoint"
        if readable := [name for name in names if name.endswith(_READ_UNPACKED)]:
            folder, _, file = readable[0].rpartition("/")
            fix = f"unpack it, and use DIRECTORY/{printable(folder if file == HUGGING_FACE_WEIGHTS else readable[0])}"
        return CheckpointError(
            f"{self.archive} holds no checkpoint",
            why=f"none of what it holds is one: {shortened_list(names)}" if names else "it is empty",
            fix=fix,
        )
