"""Provenance statements, compared with the rules of in-toto's Statement v1 and SLSA's Provenance v1."""

import json
import re
import subprocess
import sys

from packageurl import PackageURL
import pytest

from hubexport.config_files import load_variant
from hubexport.release.artifact_inputs import ArtifactInputs, inputs_of
from hubexport.release.config_facts import ConfigFacts
from hubexport.release.index import ReleaseFile, as_json
from hubexport.release.options import ReleaseOptions
from hubexport.release.slsa_provenance import statement
from hubexport.variants import ModuleSpec
from tests.command import environment

_SPEC = ModuleSpec.parse("feature_vector/2")
_HANDLE = "google/imagenet/mobilenet_v2_075_192/feature_vector/2"
_DIGESTS = {
    name: f"{number:064x}" for number, name in enumerate(["archive", "page", "card", "report", "sbom"], start=1)
}
_NAMES = {
    "archive": f"{_HANDLE}.tar.gz",
    "page": f"{_HANDLE}.md",
    "card": f"{_HANDLE}.card.md",
    "report": f"{_HANDLE}.verify.json",
    "sbom": "sbom-0.cdx.json",
}
_FILES = {role: ReleaseFile(path=name, sha256=_DIGESTS[role], bytes=7) for role, name in _NAMES.items()}
_VERSIONS = {"hubexport": "9.9", "TensorFlow": "2.15.1", "NumPy": "1.26.4"}
_OPTIONS = ReleaseOptions(
    weights="averaged",
    url="https://tfhub.dev",
    checks=("structure.digests", "weights.equal"),
    source_date_epoch=1577836800,
)

# The known fields. Names of extensions have an underscore.
_KNOWN = {
    "statement": {"_type", "subject", "predicateType", "predicate"},
    "predicate": {"buildDefinition", "runDetails"},
    "buildDefinition": {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"},
    "runDetails": {"builder", "metadata", "byproducts"},
    "builder": {"id", "version", "builderDependencies"},
    "descriptor": {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"},
}


@pytest.fixture
def variant():
    """A variant with a published checkpoint."""
    return load_variant("mobilenet_v2_075_192")


def _inputs(variant, checkpoint) -> ArtifactInputs:
    return inputs_of(variant, ModuleSpec.parse("feature_vector/2"), checkpoint, _OPTIONS)


def _statement(variant, checkpoint, versions=_VERSIONS) -> dict:
    made = statement(
        variant.handle(_SPEC),
        _inputs(variant, checkpoint),
        subjects=[_FILES["archive"], _FILES["page"], _FILES["card"]],
        byproducts=[_FILES["report"], _FILES["sbom"]],
        versions=versions,
        config=ConfigFacts.of(variant),
    )
    return json.loads(as_json(made))


_CHECKPOINTS = {
    "published": {"source": "mobilenet_v2_0.75_192.tgz", "sha256": "ab" * 32, "published": True},
    "own_archive": {"source": "mine.tgz", "sha256": "cd" * 32, "published": False},
    "files": {"source": "m.ckpt", "sha256": {"m.ckpt.index": "12" * 32, "m.ckpt.data-00000-of-00001": "34" * 32}},
    "synthetic": {"source": "synthetic:3"},
}


def _is_uri(text: object) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(r"[a-z][a-z0-9+.-]*:[A-Za-z0-9:/?#@!$&'()*+,;=._~%-]+", text))


def _is_descriptor(found: dict, *, digest_needed: bool) -> bool:
    """Asserts that a ResourceDescriptor has one of the three required fields, or a digest where that is required."""
    assert found.keys() <= _KNOWN["descriptor"]
    assert found.keys() & ({"digest"} if digest_needed else {"uri", "digest", "content"})
    assert all(_is_uri(found[name]) for name in ("uri", "downloadLocation") if name in found)
    assert isinstance(found.get("name", ""), str)
    for algorithm, value in found.get("digest", {}).items():
        assert re.fullmatch("[0-9a-f]{64}", value), algorithm
    return True


@pytest.mark.parametrize("checkpoint", _CHECKPOINTS.values(), ids=_CHECKPOINTS)
def test_statements_follow_the_specifications(variant, checkpoint):
    """They have all required fields, of the right types, and no unknown ones."""
    found = _statement(variant, checkpoint)
    assert found.keys() == _KNOWN["statement"]
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] and all(_is_descriptor(one, digest_needed=True) for one in found["subject"])
    names = [one["name"] for one in found["subject"]]
    assert len(names) == len(set(names))

    predicate = found["predicate"]
    assert predicate.keys() == _KNOWN["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert definition.keys() <= _KNOWN["buildDefinition"] and details.keys() <= _KNOWN["runDetails"]
    assert _is_uri(definition["buildType"])
    assert isinstance(definition["externalParameters"], dict) and isinstance(definition["internalParameters"], dict)
    # Names should not be in both.
    assert not definition["externalParameters"].keys() & definition["internalParameters"].keys()
    assert all(_is_descriptor(one, digest_needed=False) for one in definition["resolvedDependencies"])

    builder = details["builder"]
    assert builder.keys() <= _KNOWN["builder"]
    assert _is_uri(builder["id"])
    assert all(isinstance(text, str) for item in builder["version"].items() for text in item)
    assert all(_is_descriptor(one, digest_needed=True) for one in details["byproducts"])


def test_addresses_are_package_urls(variant):
    """They are in canonical form, so they can be compared as text."""
    found = _statement(variant, _CHECKPOINTS["synthetic"])["predicate"]
    addresses = [found["buildDefinition"]["buildType"], found["runDetails"]["builder"]["id"]]
    addresses += [one["uri"] for one in found["buildDefinition"]["resolvedDependencies"]]
    for address in addresses:
        assert PackageURL.from_string(address).to_string() == address
        assert PackageURL.from_string(address).name == "hubexport"


def test_subjects_and_byproducts_are_the_files(variant):
    """Their names are paths in the release."""
    found = _statement(variant, _CHECKPOINTS["published"])
    digests = {one["name"]: one["digest"] for one in found["subject"]}
    assert digests == {_NAMES[role]: {"sha256": _DIGESTS[role]} for role in ("archive", "page", "card")}
    digests = {one["name"]: one["digest"] for one in found["predicate"]["runDetails"]["byproducts"]}
    assert digests == {_NAMES[role]: {"sha256": _DIGESTS[role]} for role in ("report", "sbom")}


def test_the_choices_of_the_user_are_parameters(variant):
    """All of them, but no digests, which belong to dependencies."""
    found = _statement(variant, _CHECKPOINTS["own_archive"])["predicate"]["buildDefinition"]["externalParameters"]
    assert found == {
        "handle": _HANDLE,
        "checkpoint": "mine.tgz",
        "weights": "averaged",
        "url": "https://tfhub.dev",
        "checks": ["structure.digests", "weights.equal"],
        "sourceDateEpoch": 1577836800,
    }


@pytest.mark.parametrize(
    ("checkpoint", "dependencies"),
    [
        pytest.param(
            "published",
            [
                {
                    "name": "mobilenet_v2_0.75_192.tgz",
                    "uri": "https://storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_0.75_192.tgz",
                    "digest": {"sha256": "ab" * 32},
                }
            ],
            id="published",
        ),
        pytest.param("own_archive", [{"name": "mine.tgz", "digest": {"sha256": "cd" * 32}}], id="own_archive"),
        pytest.param(
            "files",
            [
                {"name": "m.ckpt.data-00000-of-00001", "digest": {"sha256": "34" * 32}},
                {"name": "m.ckpt.index", "digest": {"sha256": "12" * 32}},
            ],
            id="files",
        ),
        pytest.param("synthetic", [], id="synthetic"),
    ],
)
def test_dependencies_are_the_checkpoint_and_the_program(variant, checkpoint, dependencies):
    """A published archive has its address, each of several files its name; synthetic values have no files."""
    inputs = _inputs(variant, _CHECKPOINTS[checkpoint])
    *files, program = _statement(variant, _CHECKPOINTS[checkpoint])["predicate"]["buildDefinition"][
        "resolvedDependencies"
    ]
    assert files == dependencies
    assert program["uri"] == f"pkg:pypi/hubexport@{inputs.exporter}"
    # It is not the digest of a file that one could download.
    assert program["digest"] == {"hubexportProgram": inputs.program}


def test_the_config_is_stated_in_full_and_as_digests(variant):
    """One digest of the facts in modules, one of the facts in pages only."""
    checkpoint = _CHECKPOINTS["published"]
    inputs = _inputs(variant, checkpoint)
    found = _statement(variant, checkpoint)["predicate"]["buildDefinition"]["internalParameters"]
    config = found.pop("config")
    assert found == {"network": inputs.network, "description": inputs.description, "compressor": inputs.compressor}
    assert (config["depth_multiplier"], config["license"]) == (0.75, "Apache-2.0")
    assert config["checkpoint"]["name"] == "mobilenet_v2_0.75_192.ckpt"
    # The path of the file with the names of classes is another on every machine.
    assert re.fullmatch("[0-9a-f]{64}", config["labels"])
    other = variant.model_copy(update={"image_size": 224})
    changed = _statement(other, checkpoint)["predicate"]["buildDefinition"]["internalParameters"]
    assert (changed["network"], changed["description"]) != (found["network"], found["description"])


def test_versions_are_sorted(variant):
    """hubexport's version is that of the inputs, because these decide what is made again."""
    checkpoint = _CHECKPOINTS["published"]
    found = _statement(variant, checkpoint)["predicate"]["runDetails"]["builder"]["version"]
    assert found == {**_VERSIONS, "hubexport": _inputs(variant, checkpoint).exporter}
    backwards = dict(reversed(_VERSIONS.items()))
    assert as_json(_statement(variant, checkpoint, backwards)) == as_json(_statement(variant, checkpoint))


def test_every_input_is_stated(variant):
    """Each changed input changes the statement. So its readers can make the artifact again."""
    inputs = _inputs(variant, _CHECKPOINTS["files"])
    before = json.dumps(_of(variant, inputs))
    for name in ArtifactInputs.model_fields:
        value = getattr(inputs, name)
        other = {str: "other", int: 5, tuple: ("other",)}.get(type(value), {"source": "synthetic:9"})
        assert json.dumps(_of(variant, inputs.model_copy(update={name: other}))) != before, name


def _of(variant, inputs) -> dict:
    return statement(variant.handle(_SPEC), inputs, subjects=[_FILES["archive"]], byproducts=[], versions={})


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes():
    """In another folder, time zone and locale, with another hash seed. The statement mentions none of these."""
    program = """if True:
        import sys
        from tests import test_release_provenance as here

        variant = here.load_variant("mobilenet_v2_075_192")
        made = here._statement(variant, here._CHECKPOINTS["files"])
        sys.stdout.buffer.write(here.as_json(made))
    """
    runs = [
        subprocess.run([sys.executable, "-c", program], env=environment(env), cwd=cwd, capture_output=True, check=True)
        for env, cwd in [
            ({"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONUTF8": "0"}, "/"),
            ({"PYTHONHASHSEED": "2", "USER": "somebody", "HOSTNAME": "somewhere"}, "/tmp"),
        ]
    ]
    assert runs[0].stdout == runs[1].stdout
    assert json.loads(runs[0].stdout)["_type"]
    assert not re.search(rb"somebody|somewhere|20\d\d-\d\d|/home|/tmp", runs[0].stdout)
