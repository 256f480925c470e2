"""The bill of materials: a CycloneDX document of everything that was installed where artifacts were made.

The same environment gives the same bytes: the document has no timestamp, and its serial number is a digest of the rest.

`cyclonedx-py environment` (cyclonedx-bom 7.5) cannot replace this module. Its document names local paths, but neither
the interpreter nor a serial number; it counts the requirements of other systems and of all extras; and the package has
no Python API.
"""

from collections.abc import Iterator, Sequence
import contextlib
import hashlib
from importlib import metadata
import json
from pathlib import Path
import platform
import sys
import uuid

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot7
from packageurl import PackageURL
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hubexport.extras import installed_extras
from hubexport.release.index import as_json
from hubexport.version import __version__

_NAME = "hubexport"
_CLASSIFIER = "License :: "
# Old tools write UNKNOWN if the author says nothing. The other is a group of classifiers, not a license.
_NO_LICENSE = {"", "UNKNOWN", "OSI Approved"}
# Some authors put the license's whole text into the field for its name.
_MAX_LICENSE_NAME = 100
# Tells programs not to expect a timestamp; see https://github.com/CycloneDX/cyclonedx-property-taxonomy.
_REPRODUCIBLE = Property(name="cdx:reproducible", value="true")


def sbom() -> bytes:
    """Returns the bill of materials of the running Python: the interpreter, its packages, and what each requires.

    Returns:
        CycloneDX 1.7 as JSON, in UTF-8. Its subject is hubexport.
    """
    distributions = dict(_distributions())
    components = {name: _component(distribution) for name, distribution in distributions.items() if name != _NAME}
    subject = Component(
        type=ComponentType.APPLICATION, name=_NAME, version=__version__, purl=_purl(_NAME, __version__), bom_ref=_NAME
    )
    python, version = platform.python_implementation(), platform.python_version()
    interpreter = Component(
        type=ComponentType.PLATFORM,
        name=python,
        version=version,
        purl=PackageURL(type="generic", name=python.lower(), version=version),
        bom_ref="the interpreter",  # Names of distributions have no spaces.
    )
    bom = Bom(
        components=[interpreter, *components.values()],
        metadata=BomMetaData(component=subject, properties=[_REPRODUCIBLE]),
    )
    bom.register_dependency(subject, [interpreter])
    for name, distribution in distributions.items():
        extras = installed_extras() if name == _NAME else []
        required = [components[other] for other in _requirements(distribution, extras) if other in components]
        bom.register_dependency(components.get(name, subject), required)
    facts = json.loads(JsonV1Dot7(bom).output_as_string())
    # The library takes one from the clock, and the other from random numbers.
    del facts["metadata"]["timestamp"], facts["serialNumber"]
    digest = hashlib.sha256(as_json(facts)).hexdigest()
    return as_json({"serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}").urn, **facts})


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


def _component(distribution: metadata.Distribution) -> Component:
    name, version = _fact(distribution, "Name"), _fact(distribution, "Version")
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=_purl(name, version),
        bom_ref=canonicalize_name(name),
        licenses=_licenses(distribution),
    )


def _purl(name: str, version: str) -> PackageURL:
    return PackageURL(type="pypi", name=name, version=version)


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
