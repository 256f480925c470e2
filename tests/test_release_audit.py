"""Forgeries that agree with themselves: whoever made them knows the formats, and computed all sums again."""

from collections.abc import Callable
import hashlib
import json
from pathlib import Path

import pytest

from hubexport import BuildOrder
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import load_variant
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.release.check import ReleaseCheck, check_release
from hubexport.release.options import ReleaseOptions
from hubexport.release.release_modules import release_modules
from hubexport.variants import LabelFile, ModuleSpec, PublishedCheckpoint
from tests.archives import member, tgz
from tests.releases import INDEX, NEW, OLD, Forged, as_json, shrink

Change = Callable[[Forged], object]

_CHECKS = ("structure.digests", "weights.equal")
_DATASET = "ILSVRC-2012-CLS (ImageNet)"
_PUBLISHER = "google/google.md"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Forged:
    """Returns a release of trained and published values, with figures, a license, and names of classes."""
    folder = tmp_path_factory.mktemp("audited")
    variables = mobilenet_v2(0.35, 96, 7).variables
    write_bundle(folder / "small.ckpt", {variable.name: synthetic_value(variable, 1) for variable in variables})
    (folder / "small.tgz").write_bytes(
        tgz(*(member(path.name, path.read_bytes()) for path in sorted(folder.glob("small.ckpt.*"))))
    )
    (folder / "names.txt").write_text("daisy\nrose\ntulip\npoppy\nlily\niris\naster\n")
    checkpoint = PublishedCheckpoint(
        url="https://models.example/small.tgz",
        sha256=hashlib.sha256((folder / "small.tgz").read_bytes()).hexdigest(),
        name="small.ckpt",
    )
    variant = load_variant("mobilenet_v2_035_96").model_copy(
        update={
            "name": "small",
            "num_classes": 7,
            "checkpoint": checkpoint,
            "labels": LabelFile(file=str(folder / "names.txt")),
        }
    )
    modules = (ModuleSpec.parse("feature_vector/2"), ModuleSpec.parse("classification/5"))
    options = ReleaseOptions(checkpoint=folder / "small.tgz", checks=_CHECKS)
    release_modules([BuildOrder(variant, modules)], options, folder / "dist")
    forged = Forged(folder / "dist")
    shrink(forged)
    return forged


@pytest.fixture
def forged(original) -> Forged:
    """Returns a copy that a test may change."""
    return original.copy()


def _checked(forged: Forged, folder: Path) -> ReleaseCheck:
    forged.seal()
    return check_release(forged.written(folder / "dist"))


def _lines(checked: ReleaseCheck) -> list[str]:
    return [f"{problem.path}: {problem.what}" for problem in checked.problems]


def test_the_release_is_right(original, tmp_path):
    """Or the tests below would prove nothing."""
    record = original.record(NEW)
    assert record["values"] == "trained" and record["published"]["top1_percent"] and record["license"] == "Apache-2.0"
    checked = _checked(original.copy(), tmp_path)
    assert (checked.problems, checked.unproven) == ((), ())


def _index(change: Callable[[bytes], bytes]) -> Change:
    return lambda forged: forged.after.update({INDEX: change})


def _record(handle: str = OLD, **facts: object) -> Change:
    return lambda forged: forged.record(handle).update(facts)


def _figure(name: str, value: float) -> Change:
    return lambda forged: forged.record()["published"].update({name: value})


def _text(role: str, old: str, new: str, handle: str = OLD) -> Change:
    return lambda forged: forged.edit_text(role, old, new, handle)


def _all(*changes: Change) -> Change:
    return lambda forged: [change(forged) for change in changes]


def _swapped(role: str) -> Change:
    def change(forged: Forged) -> None:
        one, other = forged.path(role, OLD), forged.path(role, NEW)
        forged.files[one], forged.files[other] = forged.files[other], forged.files[one]

    return change


def _bill(change: Callable[[bytes], bytes]) -> Change:
    return lambda forged: forged.bill_of(change(forged.files[forged.bill()]))


def _bill_document(change: Callable[[dict], object]) -> Change:
    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return as_json(document)

    return _bill(changed)


def _result(**facts: object) -> Change:
    return lambda forged: forged.edit_json("verification", lambda report: report["checks"][0].update(facts))


# What is forged, where it shows, and how the finding names it. Each of these passed before releases were written again.
_ATTACKS = {
    "index_reformatted": (
        _index(lambda content: json.dumps(json.loads(content), indent=1, ensure_ascii=False).encode() + b"\n"),
        INDEX,
        "is reformatted, or repeats a key",
    ),
    "index_without_spaces": (
        _index(lambda content: json.dumps(json.loads(content), separators=(",", ":")).encode()),
        INDEX,
        "is reformatted, or repeats a key",
    ),
    "index_key_twice": (
        _index(lambda content: content.replace(b'"license": ', b'"license": "MIT",\n      "license": ', 1)),
        INDEX,
        "is '      \"license\": \"MIT\",', not '      \"license\": \"Apache-2.0\",'",
    ),
    "index_goes_on": (_index(lambda content: content + b" \n"), INDEX, "goes on after its end, for 2 bytes"),
    "cards_swapped": (_swapped("card"), f"{OLD}.card.md", f"its title is not '# {OLD}'"),
    "pages_and_titles_swapped": (
        _all(_swapped("page"), _text("page", NEW, OLD, OLD), _text("page", OLD, NEW, NEW)),
        f"{OLD}.md",
        "is not what hubexport writes for this module: line 2 is",
    ),
    "publishers_page": (
        lambda forged: forged.edit_publisher(b"# Publisher google\nSend your keys to x@example.org.\n"),
        _PUBLISHER,
        "is not what hubexport writes of google: line 2 is 'Send",
    ),
    "sbom_of_garbage": (_bill(lambda _: b"garbage\n"), "sbom-", "is not what hubexport writes"),
    "sbom_of_another_program": (_bill(lambda _: as_json({"bomFormat": "CycloneDX"})), "sbom-", "is not a bill of"),
    "sbom_with_another_package": (
        _bill_document(lambda bill: bill["components"][1].update(version="99.0")),
        "sbom-",
        "its serial number is not that of its contents",
    ),
    "parameters_in_the_index": (_record(parameters=7), f"{OLD}.json", "says parameters 7, not "),
    "multiply_adds_in_the_index": (_record(multiply_adds=7), f"{OLD}.json", "says multiply_adds 7, not "),
    "license_in_the_index": (_record(license="MIT"), f"{OLD}.json", "says license MIT, not Apache-2.0"),
    "no_license_in_the_index": (_record(NEW, license=None), f"{NEW}.json", "says license None, not Apache-2.0"),
    "accuracy_in_the_index": (_figure("top1_percent", 99.9), f"{OLD}.json", "says published {"),
    "license_in_a_page": (
        _text("page", "Their license is Apache-2.0.", "Their license is MIT."),
        f"{OLD}.md",
        "is 'Their license is MIT.', not 'Their license is Apache-2.0.'",
    ),
    "license_in_a_card": (_text("card", "license: apache-2.0", "license: mit"), f"{OLD}.card.md", "'license: mit'"),
    "weights_in_a_page": (_text("page", " weights and biases.", "0 weights and biases."), f"{OLD}.md", "line "),
    "multiply_adds_in_a_page": (_text("page", " million multiply-adds", "9 million multiply-adds"), f"{OLD}.md", ""),
    "sha256_in_a_card": (_text("card", "with the SHA-256", "with the SHA-1"), f"{OLD}.card.md", "with the SHA-1"),
    "program_in_a_page": (
        _text("page", "import tensorflow_hub as hub\n", "import tensorflow_hub as hub; import antigravity\n"),
        f"{OLD}.md",
        ", in a program, is 'import tensorflow_hub as hub; import antigravity', not 'import tensorflow_hub as hub'",
    ),
    "program_in_a_card": (
        _text("card", "hub.load(", "evil.load(", NEW),
        f"{NEW}.card.md",
        ", in a program, is",
    ),
    "raised_count": (
        _result(measured=3, limit=5),
        f"{OLD}.verify.json",
        "structure.digests has the limit 5, above the highest that hubexport sets, 0",
    ),
    "raised_limit_of_floors": (
        _result(measured=30.0, limit=50.0, unit="float32 floors"),
        f"{OLD}.verify.json",
        "structure.digests has the limit 50.0, above the highest that hubexport sets, 10",
    ),
    "raised_limit_of_outputs": (
        _result(measured=2.0, limit=3.0, unit=""),
        f"{OLD}.verify.json",
        "structure.digests has the limit 3.0, above the highest that hubexport sets, 0.1",
    ),
}


@pytest.mark.parametrize(("change", "path", "what"), _ATTACKS.values(), ids=_ATTACKS)
def test_rewritten_releases_are_found(forged, tmp_path, change, path, what):
    """The finding names what was forged, and no file is blamed that is right."""
    change(forged)
    checked = _checked(forged, tmp_path)
    assert any(line.startswith(path) and what in line for line in _lines(checked)), _lines(checked)
    changed = {path} if path != f"{OLD}.card.md" and path != f"{OLD}.md" else {path, path.replace(OLD, NEW)}
    assert all(line.startswith(tuple(changed)) for line in _lines(checked)), _lines(checked)
