"""Says in words how the files of a module differ from those of the same module, built again."""

from collections.abc import Iterator
import filecmp
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.checkpoints.stored_values import equal_chunks
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.errors import HubexportError
from hubexport.formats.manifest import MANIFEST
from hubexport.labels import MODULE_LABELS, read_labels
from hubexport.layouts.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.modules.module_report import read_saved_model
from hubexport.protos import TrackableObjectGraph
from hubexport.system.damage import DamageError
from hubexport.verify.message_differences import message_differences, shown

_VARIABLES = "variables"


def file_differences(directory: Path, rebuilt: Path, *, same_revision: bool) -> Iterator[str]:
    """Yields how the files of a module, its manifest aside, differ from what they should be, one line per difference.

    Args:
        directory: the module's directory.
        rebuilt: the directory of the module as it should be.
        same_revision: whether both are of the same format revision. Then files differ, too, if they say the same in
            other bytes.
    Raises:
        OSError: a file cannot be read.
    """
    found, wanted = _paths(directory), _paths(rebuilt)
    yield from (f"{name} is missing" for name in _without_parents(wanted - found))
    yield from (f"{shown(name)} should not be there" for name in _without_parents(found - wanted))
    files = [name for name in sorted(found & wanted) if not (rebuilt / name).is_dir()]
    changed = [name for name in files if not filecmp.cmp(directory / name, rebuilt / name, shallow=False)]
    # The two files of the values make sense only together.
    for part in dict.fromkeys(_VARIABLES if name.startswith(f"{_VARIABLES}/") else name for name in changed):
        differences = [*_DESCRIBED[part](directory, rebuilt)] if part in _DESCRIBED else [f"{part} has other bytes"]
        yield from differences
        if same_revision and not differences:
            yield f"{part} says the same in other bytes"


def _paths(directory: Path) -> set[str]:
    """Returns the paths of all files and folders, and of what is neither."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")} - {MANIFEST}


def _without_parents(paths: set[str]) -> list[str]:
    """Returns paths in order, without the folders of others among them."""
    parents = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    return sorted(paths - parents)


def _graph_differences(directory: Path, rebuilt: Path) -> Iterator[str]:
    try:
        found = read_saved_model(directory, directory)
    except HubexportError as error:
        yield error.why
        return
    yield from message_differences(found, read_saved_model(rebuilt, rebuilt), "")


def _label_differences(directory: Path, rebuilt: Path) -> Iterator[str]:
    try:
        found = read_labels(directory / MODULE_LABELS)
    except HubexportError as error:
        yield f"{MODULE_LABELS}: {error.why}"
        return
    wanted = read_labels(rebuilt / MODULE_LABELS)
    if len(found) != len(wanted):
        yield f"{MODULE_LABELS} names {len(found)} classes, not {len(wanted)}"
    for number, (ours, theirs) in enumerate(zip(found, wanted, strict=False)):
        if ours != theirs:
            yield f"{MODULE_LABELS}: class {number} is {shown(ours)!r}, not {theirs!r}"


def _value_differences(directory: Path, rebuilt: Path) -> Iterator[str]:
    """Yields how the stored values differ, with one line for all values that do: a check of weights names each."""
    try:
        found, wanted = (BundleReader(folder / _VARIABLES / _VARIABLES) for folder in (directory, rebuilt))
        names = {key: shown(key.removesuffix(KEY_SUFFIX)) for key in {**wanted.shapes, **found.shapes}}
        yield from (f"{_VARIABLES}: {names[key]} is missing" for key in wanted.shapes if key not in found.shapes)
        surplus = (key for key in found.shapes if key not in wanted.shapes)
        yield from (f"{_VARIABLES}: {names[key]} should not be there" for key in surplus)
        changed = [key for key in wanted.shapes if key in found.shapes and not _equal_values(found, wanted, key)]
        if OBJECT_GRAPH_KEY in changed:
            changed.remove(OBJECT_GRAPH_KEY)
            ours, theirs = (TrackableObjectGraph.FromString(one.read_text(OBJECT_GRAPH_KEY)) for one in (found, wanted))
            yield from message_differences(ours, theirs, f"{_VARIABLES}: {OBJECT_GRAPH_KEY}")
        if changed:
            more = f" and {len(changed) - 1} more differ" if len(changed) > 1 else " differs"
            yield f"{_VARIABLES}: the value of {names[changed[0]]}{more} (see weights.equal)"
    except DecodeError:
        yield f"{_VARIABLES}: {OBJECT_GRAPH_KEY} cannot be decoded"
    except (DamageError, OSError) as error:
        yield f"{_VARIABLES}: {error}"


def _equal_values(found: BundleReader, wanted: BundleReader, key: str) -> bool:
    if (found.dtype(key), found.shapes[key]) != (wanted.dtype(key), wanted.shapes[key]):
        return False
    ours, theirs = found.stored_chunks(key), wanted.stored_chunks(key)
    return ours is not None and theirs is not None and equal_chunks(ours, theirs)


# What describes a file, or the two files of the values, in words.
_DESCRIBED = {
    MODULE_FILE: _graph_differences,
    MODULE_LABELS.as_posix(): _label_differences,
    _VARIABLES: _value_differences,
}
