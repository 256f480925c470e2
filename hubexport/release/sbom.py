"""The bill of materials: everything that is installed where artifacts are made.

`cyclonedx-py environment` (cyclonedx-bom 7.5) cannot replace this module. Its document names local paths, but neither
the interpreter nor a serial number; it counts the requirements of other systems and of all extras; and the package has
no Python API.
"""

from collections.abc import Iterator, Sequence
import contextlib
from importlib import metadata
from pathlib import Path
import platform
import sys

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.license import License, LicenseAcknowledgement
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hubexport.extras import installed_extras
from hubexport.release.sbom_document import Installation, Package, sbom_document
from hubexport.version import __version__

_NAME = "hubexport"
_CLASSIFIER = "License :: "
# Old tools write UNKNOWN if the author says nothing. The other is a group of classifiers, not a license.
_NO_LICENSE = {"", "UNKNOWN", "OSI Approved"}
# Some authors put the license's whole text into the field for its name.
_MAX_LICENSE_NAME = 100


def sbom() -> bytes:
    """Returns the bill of materials of the running Python: the interpreter, its packages, and what each requires.

    Returns:
        CycloneDX 1.7 as JSON, in UTF-8. Its subject is hubexport.
    """
    distributions = dict(_distributions())
    packages = {name: _package(one) for name, one in distributions.items() if name != _NAME}
    own = distributions.get(_NAME)
    requires = _requirements(own, installed_extras()) if own else set()
    python = (platform.python_implementation(), platform.python_version())
    return sbom_document(Installation(__version__, requires, python, packages))


def _distributions() -> Iterator[tuple[str, metadata.Distribution]]:
    """Yields what is installed, by its normalized name. Of two with one name, the one that is imported comes last."""
    # The current folder does not tell what is installed, nor do the copies inside other distributions: setuptools 71
    # and newer adds its own to sys.path when pkg_resources is imported.
    path = [entry for entry in sys.path if entry and Path(entry) != Path.cwd() and not _is_vendored(Path(entry))]
    for distribution in reversed(list(metadata.distributions(path=path))):
        # An interrupted uninstallation leaves folders without a name.
        if name := _fact(distribution, "Name"):
            yield canonicalize_name(name), distribution


def _is_vendored(folder: Path) -> bool:
    return any(parent.name in ("site-packages", "dist-packages") for parent in folder.parents)


def _fact(distribution: metadata.Distribution, name: str) -> str:
    """Returns a field of the metadata, or the empty string if it is not set."""
    return (distribution.metadata.get_all(name) or [""])[0]


def _package(distribution: metadata.Distribution) -> Package:
    return Package(
        name=_fact(distribution, "Name"),
        version=_fact(distribution, "Version"),
        licenses=tuple(_licenses(distribution)),
        requires=_requirements(distribution, []),
    )


def _licenses(distribution: metadata.Distribution) -> list[License]:
    """Returns what the authors declare: an SPDX expression or a name, or else all licenses among the classifiers."""
    stated = _fact(distribution, "License-Expression") or _fact(distribution, "License")
    names = [stated]
    if stated in _NO_LICENSE or "\n" in stated or len(stated) > _MAX_LICENSE_NAME:
        classifiers = distribution.metadata.get_all("Classifier") or []
        names = [classifier.split(" :: ")[-1] for classifier in classifiers if classifier.startswith(_CLASSIFIER)]
    return [
        LicenseFactory().make_from_string(name, license_acknowledgement=LicenseAcknowledgement.DECLARED)
        for name in sorted(set(names) - _NO_LICENSE)
    ]


def _requirements(distribution: metadata.Distribution, extras: Sequence[str]) -> set[str]:
    """Returns the normalized names of what a distribution with some of its extras needs on this system."""
    needed: set[str] = set()
    for text in distribution.requires or []:
        # Some old distributions violate the standard.
        with contextlib.suppress(InvalidRequirement):
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                needed.add(canonicalize_name(requirement.name))
    return needed
