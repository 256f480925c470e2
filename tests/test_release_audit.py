"""Forgeries that agree with themselves: whoever made them knows the formats, and computed all sums again."""

from collections.abc import Callable
import gzip
import hashlib
import json
from pathlib import Path

import pytest

from hubexport import BuildOrder
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import list_variants, load_variant
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.release.check import ReleaseCheck, check_release
from hubexport.release.config_facts import ConfigFacts
from hubexport.release.findings import first_difference
from hubexport.release.index import read_index
from hubexport.release.options import ReleaseOptions
from hubexport.release.release_modules import release_modules
from hubexport.release.sbom_document import serial_number
from hubexport.variants import LabelFile, ModuleSpec, PublishedCheckpoint
from tests.archives import member, tgz
from tests.command import hubexport
from tests.releases import INDEX, NEW, OLD, SUMS, Forged, as_json, shrink

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


def _bill_document(change: Callable[[dict], object], *, sealed: bool = False) -> Change:
    """Changes the bill of materials; `sealed` gives it the serial number that fits."""

    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        rest = {name: value for name, value in document.items() if name != "serialNumber"}
        return as_json({"serialNumber": serial_number(rest), **rest} if sealed else document)

    return _bill(changed)


def _numpy(bill: dict) -> dict:
    [package] = [component for component in bill["components"] if component["name"] == "numpy"]
    return package


def _result(**facts: object) -> Change:
    return lambda forged: forged.edit_json("verification", lambda report: report["checks"][0].update(facts))


def _proved_by(handle: str) -> Change:
    """Says everywhere that another artifact proves the graph."""
    before = "None of them ran the module in TensorFlow.\n"
    after = f"{before}`{handle}`, whose graph is the same byte for byte, passed the checks that compute and train.\n"

    def change(forged: Forged) -> None:
        forged.edit_graph(graph_proved_by=handle)
        for role in ("page", "card"):
            forged.edit_text(role, before, after)

    return change


def _renamed(name: str) -> Change:
    """Puts another check in the place of the first one."""

    def change(forged: Forged) -> None:
        forged.record()["inputs"]["checks"][0] = name
        for role in ("verification", "provenance"):
            forged.edit_text(role, _CHECKS[0], name)

    return change


def _parameters(forged: Forged) -> dict:
    statement = json.loads(forged.files[forged.path("provenance")])
    return statement["predicate"]["buildDefinition"]["internalParameters"]


def _config(change: Callable[[dict], object]) -> Change:
    """Changes the parameters of a statement, among which the config is."""
    return lambda forged: forged.edit_json(
        "provenance", lambda document: change(document["predicate"]["buildDefinition"]["internalParameters"])
    )


def _manifest(handle: str = OLD, **facts: object) -> Change:
    return lambda forged: forged.edit_manifest(lambda manifest: manifest.update(facts), handle)


def _labels(content: bytes) -> Change:
    def change(forged: Forged) -> None:
        forged.put("assets/labels.txt", content, NEW)
        sha256 = {"assets/labels.txt": hashlib.sha256(content).hexdigest()}
        forged.edit_manifest(lambda manifest: manifest["sha256"].update(sha256), NEW)

    return change


def _archive(more: bytes) -> Change:
    """Adds bytes to the tar in an archive."""

    def change(forged: Forged) -> None:
        path = forged.path("archive")
        forged.files[path] = gzip.compress(gzip.decompress(forged.files[path]) + more, mtime=0)

    return change


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
        'is \'      "license": "MIT",\', not \'      "license": "Apache-2.0",\'',
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
        _all(_renamed("numbers.layers"), _result(measured=30.0, limit=50.0, unit="float32 floors")),
        f"{OLD}.verify.json",
        "numbers.layers has the limit 50.0, above the highest that hubexport sets, 10",
    ),
    "raised_limit_of_outputs": (
        _all(_renamed("numbers.random"), _result(measured=2.0, limit=3.0, unit="")),
        f"{OLD}.verify.json",
        "numbers.random has the limit 3.0, above the highest that hubexport sets, 0.1",
    ),
    "raised_limit_by_another_unit": (
        _result(measured=9, limit=10, unit="float32 floors"),
        f"{OLD}.verify.json",
        "structure.digests has the limit 10, above the highest that hubexport sets, 0",
    ),
    "no_figure": (_result(measured=None), f"{OLD}.verify.json", "does not say that it counted no problem"),
    "no_limit": (_result(measured=500, limit=None), f"{OLD}.verify.json", "does not say that it counted no problem"),
    "problem_in_details": (
        _result(details=["saved_model.pb has changed"]),
        f"{OLD}.verify.json",
        "does not say that it counted no problem",
    ),
    "report_says_more": (
        lambda forged: forged.edit_json("verification", lambda report: report.update(signed_by="Google")),
        f"{OLD}.verify.json",
        'line 32 is \'  "signed_by": "Google"\'',
    ),
    "report_key_twice": (
        _text("verification", '"passed": true', '"passed": false,\n  "passed": true'),
        f"{OLD}.verify.json",
        "is reformatted, or repeats a key: line 4 is",
    ),
    "reported_versions": (
        _all(
            lambda forged: forged.edit_json("verification", lambda report: report["versions"].update(NumPy="9.9")),
            lambda forged: forged.edit_json(
                "provenance",
                lambda document: document["predicate"]["runDetails"]["builder"]["version"].update(NumPy="9.9"),
            ),
        ),
        "sbom-",
        f"but {OLD} was verified with 9.9",
    ),
    "statement_key_twice": (
        _text("provenance", '"predicateType": ', '"predicateType": "x",\n  "predicateType": '),
        f"{OLD}.provenance.json",
        "is reformatted, or repeats a key: line 23 is",
    ),
    "statement_says_more": (
        lambda forged: forged.edit_json("provenance", lambda document: document.update(signed_by="Google")),
        f"{OLD}.provenance.json",
        '\'  "signed_by": "Google"\'',
    ),
    "statement_without_config": (
        _config(lambda parameters: parameters.pop("config")),
        f"{OLD}.provenance.json",
        "its config describes no variant: labels: Field required",
    ),
    "statement_of_another_config": (
        _config(lambda parameters: parameters["config"].update(license="MIT")),
        f"{OLD}.provenance.json",
        "its config is not the one whose digests the index has",
    ),
    "address_of_the_checkpoint": (
        _text("provenance", '"uri": "https://models.', '"uri": "https://evil.'),
        f"{OLD}.provenance.json",
        '"uri": "https://evil.example/small.tgz",\', not ',
    ),
    "script_in_a_page": (
        _text("page", "## Usage\n", "<script src=//evil.example></script>\n## Usage\n"),
        f"{OLD}.md",
        "is '<script src=//evil.example></script>', not '## Usage'",
    ),
    "accuracy_in_a_card": (
        _text("card", "value: 45.5", "value: 99.5", NEW),
        f"{NEW}.card.md",
        "is '      value: 99.5'",
    ),
    "manifest_says_more": (_manifest(author="Google"), f"{OLD}.tar.gz", '\'  "author": "Google"\''),
    "format_revision": (_manifest(format_revision=7), f"{OLD}.tar.gz", "is '  \"format_revision\": 7,', not"),
    "features_in_both": (
        _all(_record(num_features=9), _manifest(num_features=9)),
        OLD,
        "says num_features 9, not 1280",
    ),
    "labels_swapped": (
        _labels(b"rose\ndaisy\ntulip\npoppy\nlily\niris\naster\n"),
        f"{NEW}.tar.gz",
        "its assets/labels.txt does not have the names of its config",
    ),
    "behind_the_archive": (_archive(b"payload"), f"{OLD}.tar.gz", "more than padding follows its last member"),
    "requested_weights": (
        _all(
            lambda forged: forged.record()["inputs"].update(weights="raw"),
            _text("provenance", '"weights": "auto"', '"weights": "raw"'),
        ),
        OLD,
        "not 'They are the plain values after the last training step, not moving averages.'",
    ),
    "compressor": (
        _all(
            lambda forged: forged.record()["inputs"].update(compressor="deflate 0.0"),
            _config(lambda parameters: parameters.update(compressor="deflate 0.0")),
        ),
        "sbom-",
        f"but {OLD} was made with 0.0",
    ),
    "sbom_version": (
        _bill_document(lambda bill: _numpy(bill).update(version="0.9", purl="pkg:pypi/numpy@0.9"), sealed=True),
        "sbom-",
        f"lists NumPy 0.9, but {NEW} was verified with",
    ),
    "sbom_address": (
        _bill_document(lambda bill: _numpy(bill).update(purl="pkg:pypi/evil@1.0"), sealed=True),
        "sbom-",
        'is \'      "purl": "pkg:pypi/evil@1.0",\', not',
    ),
    "sbom_says_more": (
        _bill_document(lambda bill: bill["metadata"].update(supplier={"name": "Google"}), sealed=True),
        "sbom-",
        "'    \"supplier\": {'",
    ),
    "graph_proved_by_another": (
        _proved_by(NEW),
        f"{OLD}.json",
        f"its graph is not proved by {NEW}",
    ),
    "graph_proved_by_nobody": (_proved_by("a/b/c/d/1"), f"{OLD}.json", "is not proved by a/b/c/d/1"),
    "graph_proved_by_itself": (_proved_by(OLD), f"{OLD}.json", f"is not proved by {OLD}"),
    "graph_of_another": (
        lambda forged: forged.edit_graph(graph_sha256="0" * 64),
        f"{OLD}.verify.json",
        "is about another saved_model.pb",
    ),
    "order_of_sums": (
        lambda forged: forged.after.update({SUMS: lambda sums: b"".join(reversed(sums.splitlines(True)))}),
        SUMS,
        "line 2 is out of order",
    ),
}


@pytest.mark.parametrize(("change", "path", "what"), _ATTACKS.values(), ids=_ATTACKS)
def test_rewritten_releases_are_found(original, forged, tmp_path, change, path, what):
    """The finding names what was forged, and no file is blamed that is right."""
    change(forged)
    checked = _checked(forged, tmp_path)
    assert any(line.startswith(path) and what in line for line in _lines(checked)), _lines(checked)
    assert {line.partition(": ")[0] for line in _lines(checked)} <= _forged_files(original, forged), _lines(checked)


def _forged_files(original: Forged, forged: Forged) -> set[str]:
    """Returns what a forger changed. Pages and cards also change with the record, from which they are written."""
    changed = {path for path, content in forged.files.items() if original.files.get(path) != content}
    for handle in (OLD, NEW):
        if forged.record(handle)["inputs"] != original.record(handle)["inputs"]:
            changed |= {forged.path("page", handle), forged.path("card", handle)}
    return changed | {f"{OLD}.json", f"{NEW}.json", forged.bill()} | forged.after.keys()


# What another hubexport made.


def _by_another(forged: Forged) -> None:
    for handle in (OLD, NEW):
        inputs = forged.record(handle)["inputs"]
        forged.edit_text("provenance", inputs["program"], "0" * 64, handle)
        inputs["program"] = "0" * 64


def _unproven(checked: ReleaseCheck) -> list[str]:
    return [f"{item.path}: {item.what}" for item in checked.unproven]


def test_what_another_hubexport_made_alike_is_proven(forged, tmp_path):
    """Most versions write the same pages."""
    _by_another(forged)
    checked = _checked(forged, tmp_path)
    assert (checked.problems, checked.unproven) == ((), ())


_OTHERWISE = {
    "page": _text("page", "The networks are described in", "You find the networks in"),
    "encoded_address": _text("page", "asset-path: https://YOUR_HUB/g", "asset-path: https://YOUR_HUB/%67"),
    "card": _text("card", "## Limitations", "## Limits"),
    "statement": lambda forged: forged.edit_json("provenance", lambda document: document.update(_more="x")),
    "report": _result(proof="rebuild"),
    "publisher": lambda forged: forged.edit_publisher(b"# Publisher google\nModules.\n"),
}


@pytest.mark.parametrize("change", _OTHERWISE.values(), ids=_OTHERWISE)
def test_another_hubexport_may_write_otherwise(original, forged, tmp_path, change):
    """Only that version can tell whether it wrote this. It is no problem, but it is said."""
    before = original.copy()
    _by_another(before)
    _by_another(forged)
    change(forged)
    checked = _checked(forged, tmp_path)
    assert checked.problems == ()
    [unproven] = checked.unproven
    assert unproven.path in _forged_files(before, forged) and "is not what hubexport writes" in unproven.what


def test_statements_without_a_config_prove_no_pages(forged, tmp_path):
    """hubexport once wrote such statements. The figures are checked all the same."""
    _by_another(forged)
    _config(lambda parameters: parameters.pop("config"))(forged)
    what = "another hubexport made it, and its statement does not have the facts of its pages"
    checked = _checked(forged, tmp_path / "right")
    assert (_lines(checked), _unproven(checked)) == ([], [f"{OLD}.json: {what}"])
    forged.record()["multiply_adds"] = 7
    assert [line.partition(", not ")[0] for line in _lines(_checked(forged, tmp_path / "wrong"))] == [
        f"{OLD}.json: says multiply_adds 7"
    ]


def test_odd_facts_are_one_problem(forged, tmp_path):
    """No page can be written of an address that is none, though a config may have it."""
    config = ConfigFacts.parse(_parameters(forged)["config"], ModuleSpec.parse("feature_vector/2"))
    url = "https://[x"
    variant = config.variant.model_copy(
        update={"checkpoint": config.variant.checkpoint.model_copy(update={"url": url})}
    )
    odd = ConfigFacts(variant, config.labels_sha256)
    inputs = forged.record()["inputs"]
    forged.edit_text("provenance", "https://models.example/small.tgz", url)
    forged.edit_text("provenance", inputs["description"], odd.description_sha256())
    inputs["description"] = odd.description_sha256()
    assert _lines(_checked(forged, tmp_path)) == [
        f"{OLD}.json: has facts that hubexport cannot describe: Invalid IPv6 URL"
    ]


_NOT_OTHERWISE = [
    "index_key_twice",
    "cards_swapped",
    "sbom_of_garbage",
    "sbom_of_another_program",
    "sbom_version",
    "parameters_in_the_index",
    "multiply_adds_in_the_index",
    "license_in_the_index",
    "accuracy_in_the_index",
    "raised_count",
    "report_key_twice",
    "statement_key_twice",
    "labels_swapped",
    "behind_the_archive",
]


@pytest.mark.parametrize(("change", "path", "what"), [_ATTACKS[name] for name in _NOT_OTHERWISE], ids=_NOT_OTHERWISE)
def test_no_hubexport_writes_contradictions(forged, tmp_path, change, path, what):
    """Nor JSON in another form. So it helps no forger to name another hubexport."""
    _by_another(forged)
    change(forged)
    assert any(line.startswith(path) and what in line for line in _lines(_checked(forged, tmp_path)))


def test_the_command_says_what_is_unproven(forged, tmp_path):
    """On stderr, and in the verdict. The exit status is that of a right release."""
    _by_another(forged)
    forged.edit_text("page", "The networks are described in", "You find the networks in")
    forged.seal()
    forged.written(tmp_path / "dist")
    done = hubexport("check", "dist", cwd=tmp_path)
    assert done.returncode == 0
    assert f"{OLD}.md: unproven: is not what hubexport writes for this module: line " in done.stderr
    verdict = "complete and correct, but 1 file by another hubexport cannot be proven: 2 artifacts, 14 files"
    assert done.stdout.startswith(f"dist: {verdict}, ")


# What releases are written again from.


def test_configs_come_back_from_statements():
    """Of every variant, with both digests. Only labels and the list of modules are gone."""
    for variant in list_variants():
        spec = variant.modules[0]
        config = ConfigFacts.of(variant)
        parsed = ConfigFacts.parse(json.loads(as_json(config.as_json())), spec)
        assert parsed.variant == variant.model_copy(update={"labels": None, "modules": (spec,)})
        assert (parsed.network_sha256(), parsed.description_sha256()) == (
            config.network_sha256(),
            config.description_sha256(),
        )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_index_is_written_in_pieces(original, tmp_path, count):
    """They are those of the JSON of the whole."""
    index = read_index(original.copy().written(tmp_path))
    index = index.model_copy(update={"artifacts": index.artifacts[:count], "publishers": index.publishers[:count]})
    assert b"".join(index.pieces()) == as_json(index.model_dump(mode="json"))


_LINES = {
    "changed": ("a\nb\nc\n", "a\nx\nc\n", "line 2 is 'x', not 'b'"),
    "after_a_comma": ("{\n1\n}\n", "{\n1,\n2\n}\n", "line 3 is '2', not '}'"),
    "comma_alone": ("a\nb\n", "a\nb,\n", "line 2 is 'b,', not 'b'"),
    "shorter": ("a\nb", "a", "it ends with line 1, not 2"),
    "in_a_program": ("```\na\n```\n", "```\nb\n```\n", "line 2, in a program, is 'b', not 'a'"),
    "after_a_program": ("```\na\n```\nb\n", "```\na\n```\nc\n", "line 4 is 'c', not 'b'"),
    "far_to_the_right": ("x" * 200 + "a", "x" * 200 + "b", "line 1 differs after 100 characters"),
}


@pytest.mark.parametrize(("expected", "found", "what"), _LINES.values(), ids=_LINES)
def test_the_first_difference_is_named(expected, found, what):
    """By its line, and both texts."""
    assert first_difference(expected, found) == what
