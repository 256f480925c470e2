"""The form of a bill of materials: a CycloneDX document, written from what was installed, and read again.

The same installation gives the same bytes: the document has no timestamp, and its serial number is a digest of its
other fields.
"""

from collections.abc import Mapping, Set
import dataclasses
import hashlib
import json
from typing import Any
import uuid

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot7
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from hubexport.release.index import as_json

# The library that writes these documents. Another release of it may write others.
WRITER = "cyclonedx-python-lib"
_NAME = "hubexport"
_INTERPRETER = "the interpreter"  # Names of distributions have no spaces.
# Tells programs not to expect a timestamp; see https://github.com/CycloneDX/cyclonedx-property-taxonomy.
_REPRODUCIBLE = Property(name="cdx:reproducible", value="true")


@dataclasses.dataclass(frozen=True)
class Package:
    """An installed distribution.

    Attributes:
        name: its name, as its authors write it.
        version: its version.
        licenses: what its authors declare.
        requires: the normalized names of what it needs; those that are not installed do not count.
    """

    name: str
    version: str
    licenses: tuple[License, ...]
    requires: Set[str]


@dataclasses.dataclass(frozen=True)
class Installation:
    """What is installed where artifacts are made.

    Attributes:
        hubexport: hubexport's version.
        requires: the normalized names of the distributions that hubexport needs.
        python: the interpreter's name and version.
        packages: all distributions but hubexport, by their normalized names.
    """

    hubexport: str
    requires: Set[str]
    python: tuple[str, str]
    packages: Mapping[str, Package]


def sbom_document(installation: Installation) -> bytes:
    """Returns the bill of materials of an installation: CycloneDX 1.7 as JSON, in UTF-8. Its subject is hubexport."""
    components = {
        name: Component(
            type=ComponentType.LIBRARY,
            name=package.name,
            version=package.version,
            purl=_purl(package.name, package.version),
            bom_ref=name,
            licenses=package.licenses,
        )
        for name, package in installation.packages.items()
    }
    subject = Component(
        type=ComponentType.APPLICATION,
        name=_NAME,
        version=installation.hubexport,
        purl=_purl(_NAME, installation.hubexport),
        bom_ref=_NAME,
    )
    python, version = installation.python
    interpreter = Component(
        type=ComponentType.PLATFORM,
        name=python,
        version=version,
        purl=PackageURL(type="generic", name=python.lower(), version=version),
        bom_ref=_INTERPRETER,
    )
    bom = Bom(
        components=[interpreter, *components.values()],
        metadata=BomMetaData(component=subject, properties=[_REPRODUCIBLE]),
    )
    required = {_NAME: installation.requires} | {name: one.requires for name, one in installation.packages.items()}
    bom.register_dependency(subject, [interpreter])
    for name, others in required.items():
        bom.register_dependency(
            components.get(name, subject), [components[other] for other in others if other in components]
        )
    facts = json.loads(JsonV1Dot7(bom).output_as_string())
    # The library takes one from the clock, and the other from random numbers.
    del facts["metadata"]["timestamp"], facts["serialNumber"]
    return as_json({"serialNumber": serial_number(facts), **facts})


def serial_number(facts: Mapping[str, Any]) -> str:
    """Returns the serial number of a document without one: the same for the same facts."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{hashlib.sha256(as_json(facts)).hexdigest()}").urn


def rewritten(document: Mapping[str, Any]) -> tuple[Installation, bytes]:
    """Reads what is installed from a bill of materials, and writes the bill again.

    Raises:
        ValueError: the document is not a bill of materials of hubexport's.
    """
    try:
        installation = _read(document)
        return installation, sbom_document(installation)
    # The library raises errors of many kinds for documents that are not CycloneDX.
    except Exception as error:  # pylint: disable=broad-exception-caught
        raise ValueError("not a bill of materials") from error


def _read(document: Mapping[str, Any]) -> Installation:
    bom = Bom.from_json(document)  # type: ignore[attr-defined]
    subject = bom.metadata.component
    [interpreter] = [one for one in bom.components if one.type == ComponentType.PLATFORM]
    required = {str(one.ref.value): {str(other.ref.value) for other in one.dependencies} for one in bom.dependencies}
    packages: dict[str, Package] = {
        canonicalize_name(one.name): Package(
            one.name, one.version or "", tuple(one.licenses), required.get(str(one.bom_ref.value), set())
        )
        for one in bom.components
        if one is not interpreter
    }
    python = (interpreter.name, interpreter.version or "")
    return Installation(subject.version or "", required.get(_NAME, set()), python, packages)


def _purl(name: str, version: str) -> PackageURL:
    return PackageURL(type="pypi", name=name, version=version)
