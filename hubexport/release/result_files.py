"""Results that commands printed as JSON, read from files for the artifacts of a release."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pydantic

from hubexport.errors import ReleaseError, UsageError, printable
from hubexport.formats.manifest import values_sha256
from hubexport.release.facts import RESULTS
from hubexport.system.regular_files import read_regular_file

# Such a file lists the images that were skipped.
_MAX_BYTES = 16 << 20


class Result(Protocol):
    """What a command found out about an artifact."""

    @property
    def values_sha256(self) -> str:
        """A digest of the artifact's values, see `hubexport.formats.manifest.values_sha256`."""


_Result = TypeVar("_Result", bound=Result)


@dataclasses.dataclass(frozen=True)
class ResultFile(Generic[_Result]):
    """A kind of file with a result. All kinds say `handle` and `values_sha256` of what the result is of.

    Attributes:
        name: one of `RESULTS`. The flag is called like it.
        command: the command that prints the file.
        parse: makes a result of the JSON. It raises ValueError, or `pydantic.ValidationError`.
        keys: the keys by which such a file can be told from other JSON.
        subject: what such a file is about.
        places: where the JSON has the fields that the result calls otherwise.
    """

    name: str
    command: str
    parse: Callable[[object], _Result]
    keys: frozenset[str]
    subject: str = "a module of hubexport"
    places: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_results(kind: ResultFile[_Result], paths: Sequence[str | Path]) -> dict[str, _Result]:
    """Reads the results that a command printed with `--format json`.

    Args:
        kind: the kind of all these files.
        paths: the files, one for each module or deployment.
    Returns:
        The results, by the handle of the module or deployment that they are of.
    Raises:
        ReleaseError: a file cannot be read, is not of this kind, or does not say which module it is of.
        UsageError: two files are of the same one.
    """
    results: dict[str, _Result] = {}
    origins: dict[str, str | Path] = {}
    for path in paths:
        handle, result = _read(kind, Path(path))
        if handle in results:
            raise UsageError(
                f"--{kind.name} {path}: another file is about the same module",
                why=f"{origins[handle]} has the {RESULTS[kind.name]} of {printable(handle)}, too",
                fix="give one of the two",
            )
        results[handle], origins[handle] = result, path
    return results


def check_all_used(name: str, results: Mapping[str, Result], handles: set[str]) -> None:
    """Refuses results of artifacts that a run does not release.

    Args:
        name: the name in `RESULTS`.
        results: the results by handle.
        handles: the handles of the run's artifacts.
    Raises:
        UsageError: there are some.
    """
    if unused := sorted(results.keys() - handles):
        raise UsageError(
            f"--{name}: this run does not release {printable(unused[0])}",
            why=f"a {RESULTS[name]} is published with the module or deployment that it is of",
            fix="select that one with --variant, --module and --deployment, or leave the file out",
            details=[f"{printable(handle)} is not released either" for handle in unused[1:]],
        )


def check_values(name: str, result: Result | None, handle: str, digests: Mapping[str, str]) -> None:
    """Checks that a result is of the values of an artifact.

    Args:
        name: the name in `RESULTS`.
        result: the result; None, which is always right, if there is none.
        handle: the artifact's handle.
        digests: the SHA-256 of each of its files, as its manifest lists them.
    Raises:
        ReleaseError: it is of other values.
    """
    if result and result.values_sha256 != values_sha256(digests):
        raise ReleaseError(
            f"{handle} does not have the values of its {RESULTS[name]}",
            why=f"--{name} has a {RESULTS[name]} of something with this handle, but with other values",
            fix=f"make the file again with a module from the same checkpoint, or leave it out of --{name}",
        )


def _read(kind: ResultFile[_Result], path: Path) -> tuple[str, _Result]:
    try:
        document: Any = json.loads(read_regular_file(path, _MAX_BYTES))
    except OSError as error:
        raise _unusable(kind, path, f"{error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(kind, path, "it is not JSON") from error
    if not isinstance(document, dict) or not kind.keys <= document.keys():
        raise _unusable(kind, path, f"`hubexport {kind.command}` did not print it")
    if any(not isinstance(document.get(key), str) for key in ("handle", "values_sha256")):
        raise _unusable(kind, path, "it does not say which module it is of: that one has no hubexport.json")
    try:
        return document["handle"], kind.parse(document)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(kind.places.get(str(part), printable(str(part))) for part in first["loc"])
        why = ": ".join(filter(None, (place, first["msg"].removeprefix("Value error, "))))
        raise _unusable(kind, path, why) from error
    except ValueError as error:
        raise _unusable(kind, path, str(error)) from error


def _unusable(kind: ResultFile[_Result], path: Path, why: str) -> ReleaseError:
    return ReleaseError(
        f"--{kind.name} {path}: no {RESULTS[kind.name]} to publish",
        why=why,
        fix=f"give what `hubexport {kind.command} --format json` printed for {kind.subject}",
    )
