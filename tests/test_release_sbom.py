"""The bill of materials: valid by CycloneDX' schema, true, and the same bytes in the same environment."""

from importlib import metadata
import json
from pathlib import Path
import subprocess
import sys
import uuid

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
import pytest

import hubexport
from hubexport.release.sbom import sbom
from tests.command import environment


@pytest.fixture(scope="module")
def content() -> bytes:
    """The bill of materials of the environment in which the tests run."""
    return sbom()


@pytest.fixture(scope="module")
def document(content) -> dict:
    """The same as a JSON document."""
    return json.loads(content)


def _components(document: dict) -> dict[str, dict]:
    return {component["bom-ref"]: component for component in document["components"]}


def _dependencies(document: dict) -> dict[str, list[str]]:
    return {dependency["ref"]: dependency.get("dependsOn", []) for dependency in document["dependencies"]}


def _install(folder: Path, name: str, *facts: str, version: str = "1.0") -> None:
    """Installs a distribution that contains only metadata."""
    directory = folder / f"{name}-{version}.dist-info"
    directory.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *facts, ""]
    (directory / "METADATA").write_text("\n".join(lines))


def test_the_document_is_valid(content, document):
    """By CycloneDX' own schema."""
    assert document["specVersion"] == "1.7"
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(content.decode()) is None


def test_the_validator_finds_faults(document):
    """Or the test above would prove nothing."""
    damaged = json.dumps({**document, "serialNumber": "none"})
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(damaged) is not None


def test_copies_inside_other_distributions_are_not_listed(document, monkeypatch, tmp_path):
    """setuptools contains such copies, and adds them to the path when pkg_resources is imported."""
    vendored = tmp_path / "site-packages" / "setuptools" / "_vendor"
    (vendored / "copied-1.0.dist-info").mkdir(parents=True)
    (vendored / "copied-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: copied\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(vendored))
    assert metadata.version("copied") == "1.0"
    assert json.loads(sbom()) == document


def test_all_installed_distributions_are_listed(document):
    """The same names and versions as in pip's list. Only hubexport is missing, because it is the subject."""
    listed = {component["name"]: component["version"] for component in document["components"]}
    assert listed["tensorflow"] == metadata.version("tensorflow")
    command = [sys.executable, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    listing = subprocess.run(command, capture_output=True, check=True, cwd="/").stdout
    installed = {one["name"].lower(): one["version"] for one in json.loads(listing)}
    del installed["hubexport"]
    del listed["CPython"]
    assert {name.lower(): version for name, version in listed.items()} == installed


def test_components_are_identified_by_package_urls(document):
    """Vulnerability scanners look these up."""
    components = _components(document)
    assert components["tensorflow"]["purl"] == f"pkg:pypi/tensorflow@{metadata.version('tensorflow')}"
    assert components["typing-extensions"]["purl"].startswith("pkg:pypi/typing-extensions@")
    assert components["tensorflow"]["licenses"][0]["license"]["name"] == "Apache 2.0"
    [numpy] = components["numpy"]["licenses"]
    if metadata.version("numpy").startswith("1."):
        assert numpy == {"license": {"acknowledgement": "declared", "name": "BSD License"}}
    else:
        assert numpy["expression"].startswith("BSD-3-Clause AND")


def test_the_interpreter_is_a_component(document):
    """It has the name and version of the running interpreter."""
    (found,) = [component for component in document["components"] if component["type"] == "platform"]
    assert (found["name"], found["version"]) == ("CPython", sys.version.split()[0])


def test_hubexport_is_the_subject(document):
    """It depends on its requirements in setup.cfg, with those of the installed extras."""
    subject = document["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("hubexport", hubexport.__version__)
    needed = _dependencies(document)[subject["bom-ref"]]
    assert {"tensorflow", "tensorflow-hub", "the interpreter"} < set(needed)
    # The extra for developers does not count.
    assert "pytest" not in needed
    assert {"starlette", "deflate", "apache-beam", "pyarrow", "numpy"} < set(needed)
    assert "numpy" in _dependencies(document)["tensorflow"]


def test_all_references_are_resolved(document):
    """Each component has an entry for its dependencies, which are components themselves."""
    known = {*_components(document), document["metadata"]["component"]["bom-ref"]}
    dependencies = _dependencies(document)
    assert dependencies.keys() == known
    assert {other for others in dependencies.values() for other in others} < known


def test_the_document_has_no_paths_and_no_time(content, document):
    """The serial number is computed from the rest."""
    assert "timestamp" not in document["metadata"]
    assert uuid.UUID(document["serialNumber"]).version == 5
    assert str(Path.home()).encode() not in content and sys.prefix.encode() not in content


@pytest.mark.slow
def test_the_same_environment_gives_the_same_bytes(content, tmp_path):
    """In any folder, time zone and locale, with any hash seed, even if the folder contains a distribution."""
    _install(tmp_path, "lying-around")
    program = "import sys; from hubexport.release.sbom import sbom; sys.stdout.buffer.write(sbom())"
    others = [
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONUTF8": "0"},
        {"PYTHONHASHSEED": "2", "TZ": "America/New_York", "LC_ALL": "C.UTF-8", "HOME": str(tmp_path), "USER": "other"},
    ]
    for env in others:
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, env=environment(env), cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout == content and not done.stderr


@pytest.mark.slow
def test_another_environment_has_another_serial_number(document, tmp_path, monkeypatch):
    """One additional distribution is enough."""
    _install(tmp_path, "one-more")
    monkeypatch.syspath_prepend(tmp_path)
    other = json.loads(sbom())
    assert _components(other).keys() - _components(document).keys() == {"one-more"}
    assert other["serialNumber"] != document["serialNumber"]


def test_the_imported_one_of_two_distributions_is_listed(tmp_path, monkeypatch):
    """If two have the same name, it is the first on the path."""
    _install(tmp_path / "later", "twice", version="1.0")
    _install(tmp_path / "first", "Twice", version="2.0")
    monkeypatch.syspath_prepend(tmp_path / "later")
    monkeypatch.syspath_prepend(tmp_path / "first")
    assert _components(json.loads(sbom()))["twice"]["version"] == "2.0"


@pytest.mark.parametrize(
    ("facts", "licenses"),
    [
        pytest.param(["License-Expression: MIT OR Apache-2.0"], [{"expression": "MIT OR Apache-2.0"}], id="expression"),
        pytest.param(["License-Expression: MIT", "License: ISC"], [{"license": {"id": "MIT"}}], id="identifier"),
        pytest.param(["License: Our Own"], [{"license": {"name": "Our Own"}}], id="name"),
        pytest.param(
            ["License: UNKNOWN", "Classifier: License :: OSI Approved", "Classifier: License :: OSI Approved :: ISC L"],
            [{"license": {"name": "ISC L"}}],
            id="classifier",
        ),
        pytest.param(
            [
                "License: Copyright",
                "        you may",
                "Classifier: License :: DFSG approved",
                "Classifier: License :: OSI Approved :: Zope Public License",
            ],
            [{"license": {"name": "DFSG approved"}}, {"license": {"name": "Zope Public License"}}],
            id="text",
        ),
        pytest.param([f"License: {'long ' * 30}"], None, id="long"),
        pytest.param([], None, id="none"),
    ],
)
@pytest.mark.slow
def test_licenses_are_those_that_the_authors_declare(tmp_path, monkeypatch, facts, licenses):
    """An expression, a name, or the classifiers, but no whole texts."""
    _install(tmp_path, "licensed", *facts)
    monkeypatch.syspath_prepend(tmp_path)
    content = sbom()
    found = _components(json.loads(content))["licensed"].get("licenses")
    for one in found or []:
        assert one.get("license", one).pop("acknowledgement") == "declared"
    assert found == licenses
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(content.decode()) is None


def test_requirements_are_those_of_this_system(tmp_path, monkeypatch):
    """Not those of extras or other systems, nor uninstalled or invalid ones."""
    needs = [
        "NumPy>=1",
        "absent",
        "rich; extra == 'colour'",
        "pytest; sys_platform == 'none'",
        "six (>=1.dev*)",
        "h5py",
    ]
    _install(tmp_path, "needy", *(f"Requires-Dist: {need}" for need in needs))
    monkeypatch.syspath_prepend(tmp_path)
    assert _dependencies(json.loads(sbom()))["needy"] == ["h5py", "numpy"]


def test_leftovers_without_a_name_are_ignored(tmp_path, monkeypatch, document):
    """Interrupted uninstallations leave such folders."""
    (tmp_path / "~umpy-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert json.loads(sbom()) == document
