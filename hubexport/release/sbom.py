"""The bill of materials: all that was installed where artifacts were made, as a CycloneDX document.

The same environment gives the same bytes: there is no time in it, and its serial number is derived from the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
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
# What old tools write where nobody said anything, and the group that is not a license.
_NO_LICENSE = {"", "UNKNOWN", "OSI Approved"}
# Some have the whole text in the field for the name.
_MAX_LICENSE_NAME = 100
# Told to programs that look for times and the like, see CycloneDX' list of property names.
_REPRODUCIBLE = Property(name="cdx:reproducible", value="true")


def sbom() -> bytes:
    """Returns the bill of materials of the running Python: its distributions, what each requires, and itself.

    It is CycloneDX 1.7, as JSON; its subject is hubexport.
    """
    distributions = dict(_distributions())
    components = {name: _component(distribution) for name, distribution in distributions.items() if name != _NAME}
    subject = Component(
        type=ComponentType.APPLICATION, name=_NAME, version=__version__, purl=_purl(_NAME, __version__), bom_ref=_NAME
    )
    interpreter = _interpreter()
    bom = Bom(
        components=[interpreter, *components.values()],
        metadata=BomMetaData(component=subject, properties=[_REPRODUCIBLE]),
    )
    bom.register_dependency(subject, [interpreter])
    for name, distribution in distributions.items():
        extras = installed_extras() if name == _NAME else []
        required = [components[other] for other in _requirements(distribution, extras) if other in components]
        bom.register_dependency(components.get(name, subject), required)
    return _as_json(bom)


def _distributions() -> Iterator[tuple[str, metadata.Distribution]]:
    """Yields what is installed, by its normalized name, what is imported last: of two with one name, that is hidden."""
    # The current folder says nothing about what is installed; neither do copies inside another distribution, to which
    # pkg_resources of setuptools 71 and newer extends the path when it is imported.
    path = [entry for entry in sys.path if entry and Path(entry) != Path.cwd() and not _is_vendored(Path(entry))]
    for distribution in reversed(list(metadata.distributions(path=path))):
        # What a broken uninstallation leaves has no name.
        if name := _fact(distribution, "Name"):
            yield canonicalize_name(name), distribution


def _is_vendored(folder: Path) -> bool:
    return any(parent.name in ("site-packages", "dist-packages") for parent in folder.parents)


def _fact(distribution: metadata.Distribution, name: str) -> str:
    """Returns what the metadata say, the empty string if nothing."""
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


def _interpreter() -> Component:
    name, version = platform.python_implementation(), platform.python_version()
    purl = PackageURL(type="generic", name=name.lower(), version=version)
    # No distribution has a name with a space.
    return Component(type=ComponentType.PLATFORM, name=name, version=version, purl=purl, bom_ref="the interpreter")


def _purl(name: str, version: str) -> PackageURL:
    return PackageURL(type="pypi", name=name, version=version)


def _licenses(distribution: metadata.Distribution) -> list[License]:
    """Returns what the authors say: an expression or one name, else all that the classifiers name."""
    stated = _fact(distribution, "License-Expression") or _fact(distribution, "License")
    names = [stated]
    if stated in _NO_LICENSE or "\n" in stated or len(stated) > _MAX_LICENSE_NAME:
        classifiers = distribution.metadata.get_all("Classifier") or []
        names = [classifier.split(" :: ")[-1] for classifier in classifiers if classifier.startswith(_CLASSIFIER)]
    declared = LicenseAcknowledgement.DECLARED
    known = sorted(set(names) - _NO_LICENSE)
    return [LicenseFactory().make_from_string(name, license_acknowledgement=declared) for name in known]


def _requirements(distribution: metadata.Distribution, extras: Sequence[str]) -> set[str]:
    """Returns the normalized names of what a distribution needs here, with these of its extras."""
    needed: set[str] = set()
    for text in distribution.requires or []:
        # Of old distributions, some do not keep to the standard.
        with contextlib.suppress(InvalidRequirement):
            requirement = Requirement(text)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in ("", *extras)):
                needed.add(canonicalize_name(requirement.name))
    return needed


def _as_json(bom: Bom) -> bytes:
    facts = json.loads(JsonV1Dot7(bom).output_as_string())
    # The library makes both up.
    del facts["metadata"]["timestamp"], facts["serialNumber"]
    return as_json({"serialNumber": _serial_number(facts), **facts})


def _serial_number(facts: Mapping[str, object]) -> str:
    digest = hashlib.sha256(as_json(facts)).hexdigest()
    return uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}").urn
