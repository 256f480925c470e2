"""Configs, labels and names that would hang a build, or break every reader of the module."""

import os
from pathlib import Path
import socket

import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import list_variants, load_variant
from hubexport.errors import CheckpointError, ConfigError, ServerError, UsageError
from hubexport.evaluation.tfrecords import is_record_file
from hubexport.formats.manifest import read_manifest
from hubexport.labels import read_labels
from hubexport.serve.tokens import read_tokens
from hubexport.system.regular_files import read_regular_file
from tests.archives import member, tgz
from tests.checkpoints import network_values
from tests.command import hubexport
from tests.conftest import SMALL


def _config(folder, lines="", base=SMALL):
    (folder / "bad.yaml").write_text(f"{base}{lines}", encoding="utf-8", errors="surrogatepass")
    return folder


def _refusal(folder) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load_variant("bad", folder)
    assert str(raised.value).count("\n") >= 2
    return raised.value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        pytest.param("9" * 20_000, "not what its tag", id="20,000 digits"),
        pytest.param("0x" + "f" * 20_000, "too large", id="20,000 hexadecimal digits"),
        pytest.param("0b1" + "0" * 20_000, "too large", id="20,000 bits"),
        pytest.param("0o7" + "7" * 20_000, "num_classes", id="octal, a text in YAML 1.1"),
        pytest.param("-0x" + "f" * 20_000, "too large", id="negative"),
        pytest.param("9" * 4000, "too large", id="4,000 digits"),
        pytest.param(":".join(["1"] * 400), "too large", id="base 60"),
        pytest.param(":".join(["1"] * 400) + ".5", "or too large", id="base 60, a fraction"),
        pytest.param("1.0e+400", "'num_classes'", id="1e400"),
        pytest.param(".inf", "'num_classes'", id="infinity"),
        pytest.param("-.inf", "'num_classes'", id="minus infinity"),
        pytest.param(".nan", "'num_classes'", id="NaN"),
        pytest.param("2012-01-01", "date in quotes", id="date"),
        pytest.param("2012-99-99", "not what its tag", id="no date"),
        pytest.param("2012-01-01 12:00:00 +99:99", "not what its tag", id="no time zone"),
        pytest.param("!!binary aGFsbG8=", "must be a text", id="binary"),
        pytest.param('!!binary "a"', "failed to decode", id="no binary"),
        pytest.param("!!timestamp x", "not what its tag", id="no timestamp"),
        pytest.param("!!bool x", "not what its tag", id="no bool"),
        pytest.param("!!int x", "not what its tag", id="no int"),
        pytest.param("!!int ''", "not what its tag", id="empty int"),
        pytest.param("!!float x", "not what its tag", id="no float"),
        pytest.param("!!set {a, b}", "not allowed", id="set"),
        pytest.param("!!omap [a: b]", "not allowed", id="omap"),
        pytest.param("!!python/object/apply:os.system [true]", "not allowed", id="program"),
        pytest.param("!!python/name:os.system", "could not determine a constructor", id="name"),
        pytest.param("!mine x", "could not determine a constructor", id="unknown tag"),
    ],
)
def test_values_that_are_not_plain_are_refused(tmp_path, value, why):
    """The error names the line."""
    error = _refusal(_config(tmp_path, base=SMALL.replace("num_classes: 7", f"num_classes: {value}")))
    assert why in error.why
    assert error.what == f"{tmp_path}/bad.yaml:4: not a valid variant"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("a: &a [x]\nb: [*a, *a]\n", "aliases are not allowed", id="bomb"),
        pytest.param("base: &b {x: 1}\n<<: *b\n", "aliases are not allowed", id="merge key"),
        pytest.param("<<: {x: 1}\n", "unknown key '<<'", id="merge without alias"),
        pytest.param("dataset: x\ndataset: y\n", "given twice", id="twice"),
        pytest.param('"\\ud800": 1\n', "a key must be a word", id="surrogate key"),
        pytest.param("? [a, b]\n: 1\n", "a key must be a word", id="list for a key"),
        pytest.param("a: \0\n", "special characters are not allowed", id="NUL"),
        pytest.param("a: \x1b\n", "special characters are not allowed", id="escape"),
        pytest.param("[" * 5000, "nested too deeply", id="deep"),
        pytest.param("--- 1\n--- 2\n", "found another document", id="two documents"),
    ],
)
def test_documents_that_are_not_plain_are_refused(tmp_path, text, why):
    """The reason is printable."""
    error = _refusal(_config(tmp_path, text, base=""))
    assert why in f"{error.why} {error.details}"


_TEXTS = [
    pytest.param('"two\\nlines"', id="two lines"),
    pytest.param("|\n  two\n  lines", id="block"),
    pytest.param('"red\\e[31m"', id="escape"),
    pytest.param('"bell\\a"', id="bell"),
    pytest.param('"nul\\0"', id="NUL"),
    pytest.param('"tab\\t"', id="tab"),
    pytest.param('"\\x7f"', id="delete"),
    pytest.param('"\\x85"', id="next line"),
    pytest.param('"\\u2028"', id="line separator"),
    pytest.param('"\\u202e"', id="right to left"),
    pytest.param('"\\u2066"', id="isolate"),
    pytest.param('"\\u200b"', id="invisible space"),
    pytest.param('"\\ufeff"', id="byte order mark"),
    pytest.param('"\\xa0"', id="no-break space"),
    pytest.param('"\\ud800"', id="surrogate"),
    pytest.param('"\\udcff"', id="byte"),
    pytest.param("x" * 1001, id="long"),
]


@pytest.mark.parametrize("text", _TEXTS)
@pytest.mark.parametrize("key", ["dataset", "publisher", "collection", "license", "labels"])
def test_texts_are_one_printable_line(tmp_path, key, text):
    """In every key with free text."""
    base = "".join(line for line in SMALL.splitlines(keepends=True) if not line.startswith(f"{key}:"))
    error = _refusal(_config(tmp_path, f"{key}: {text}\n", base=base))
    assert f"'{key}'" in error.why and error.what.isprintable()
    assert str(error).replace("\n", "").isprintable()


@pytest.mark.parametrize("text", _TEXTS)
@pytest.mark.parametrize("key", ["url", "name"])
def test_texts_about_a_checkpoint_are_one_printable_line(tmp_path, key, text):
    """In every key with free text."""
    value = {"url": "https://example.invalid/small.tgz", "name": "small.ckpt"}[key]
    # Behind the address, and a block deeper than its key.
    text = text.replace('"', f'"{value}', 1).replace("\n  ", "\n      ")
    error = _refusal(_config(tmp_path, base=SMALL.replace(f" {key}: {value}\n", f" {key}: {text}\n")))
    assert f"'checkpoint.{key}'" in error.why


def test_texts_of_any_language_are_accepted(tmp_path):
    """And a manifest with them can be read again."""
    dataset = "ImageNet (ILSVRC-2012-CLS), Größe ≤ 224², 画像"
    config = _config(tmp_path, base=SMALL.replace("dataset: made up", f"dataset: {dataset}"))
    [path] = build_modules(
        load_variant("bad", config), ["feature_vector/2"], checkpoint="synthetic", output_dir=tmp_path
    )
    assert read_manifest(path).dataset == dataset


@pytest.mark.parametrize("name", ["x" * 201, "ß" * 101])
def test_names_too_long_for_a_file_are_refused(tmp_path, name):
    """They become folders, and archives with a suffix."""
    why = _refusal(_config(tmp_path, f"collection: a{name}\n")).why
    assert "at most 200 bytes long" in why


@pytest.mark.parametrize("name", ["two\nlines", "red\x1b[31m", "\udcff", "\u202e", "no\xa0break"])
@pytest.mark.parametrize("kind", ["prefix", "archive"])
def test_a_checkpoint_whose_name_cannot_be_printed_is_not_built_from(config_dir, tmp_path, small, name, kind):
    """A module that records the name could be neither verified nor released."""
    named = tmp_path / f"{name}.ckpt"
    if kind == "prefix":
        write_bundle(named, network_values())
    else:
        write_bundle(tmp_path / "c", network_values())
        named.write_bytes(tgz(*(member(path.name, path.read_bytes()) for path in tmp_path.glob("c.*"))))
    with pytest.raises(CheckpointError, match="cannot build from the file") as raised:
        build_modules(small, checkpoint=named, weights="raw", output_dir=tmp_path / "m")
    assert str(raised.value).replace("\n", "").isprintable()
    assert not (tmp_path / "m").exists()


@pytest.fixture(params=["/dev/zero", "pipe", "folder", "socket", "link to /dev/zero", "link to a pipe", "missing"])
def no_file(request, tmp_path, monkeypatch):
    """A path that must not be read, with the expected message."""
    monkeypatch.chdir(tmp_path)
    path = Path("it")
    match request.param:
        case "/dev/zero":
            path = Path("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            socket.socket(socket.AF_UNIX).bind("it")
        case "link to /dev/zero":
            path.symlink_to("/dev/zero")
        case "link to a pipe":
            os.mkfifo("p")
            path.symlink_to("p")
    reasons = {"folder": "Is a directory", "missing": "No such file"}
    return path, reasons.get(request.param, "it is a pipe, a socket or a device, not a file")


@pytest.mark.timeout(20)
def test_what_is_not_a_file_is_not_read(no_file, tmp_path):
    """Wherever a small file is expected, nothing hangs and nothing fills the memory."""
    path, why = no_file
    for read, error in (
        (read_labels, UsageError),
        (read_tokens, ServerError),
        (is_record_file, OSError),
        (lambda path: read_regular_file(path, 10), OSError),
    ):
        with pytest.raises(error) as raised:
            read(path)
        assert why in (raised.value.strerror if error is OSError else raised.value.why)
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "bad.yaml").write_text(f"{SMALL}labels: {path.absolute()}\n")
    assert why in _refusal(configs).why
    (configs / "bad.yaml").unlink()
    (configs / "bad.yaml").symlink_to(path.absolute())
    assert why in _refusal(configs).why
    done = hubexport("list", f"--flagfile={path}")
    assert done.returncode == 2 and why in done.stderr
    assert hubexport("--flagfile=/dev/null", "--version").returncode == 0


def test_what_is_too_large_is_not_read(tmp_path):
    """Not a byte more than allowed is kept."""
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_regular_file(tmp_path / "large", 1 << 20)
    assert len(read_regular_file(tmp_path / "large", (1 << 20) + 1)) == (1 << 20) + 1
    with pytest.raises(ServerError, match="cannot read tokens") as raised:
        read_tokens(tmp_path / "large")
    assert "larger than 1 MiB" in raised.value.why


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_an_argument_that_is_not_a_path_is_an_error(path):
    """In a function's argument; a shell cannot pass it."""
    with pytest.raises(UsageError, match="cannot read labels"):
        read_labels(Path(path))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param("a\nb\n\x1b[31m\nd\ne\nf\ng\n", "line 3", id="escape"),
        pytest.param("a\tb\n" + "c\n" * 6, "line 1", id="tab"),
        pytest.param("a\rb\rc\rd\re\rf\rg\r", "line 1", id="old Mac"),
        pytest.param("a\u2028b\n" + "c\n" * 6, "line 1", id="line separator"),
        pytest.param("a\n \n" + "c\n" * 5, "1 blank", id="blank"),
        pytest.param("\n" * 7, "7 blank", id="all blank"),
        pytest.param("a\n" * 6, "found 6 lines", id="one missing"),
        pytest.param("", "it is empty", id="empty"),
    ],
)
def test_labels_of_a_config_are_one_printable_name_a_class(tmp_path, content, why):
    """The error names the label that is not."""
    (tmp_path / "labels.txt").write_text(content, newline="")
    assert why in _refusal(_config(tmp_path, "labels: labels.txt\n")).why


def test_labels_may_be_equal(tmp_path):
    """ImageNet has two cranes. Windows' line ends and the byte order mark are not part of a name."""
    _config(tmp_path, "labels: labels.txt\n")
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfcrane\r\ncrane\r\n" + b"x\r\n" * 5)
    assert load_variant("bad", tmp_path).class_names() == ["crane", "crane"] + ["x"] * 5


def test_an_empty_file_of_labels_is_said_to_be_empty(tmp_path):
    """The error does not claim that it has one label."""
    (tmp_path / "labels.txt").write_bytes(b"")
    with pytest.raises(UsageError) as raised:
        read_labels(tmp_path / "labels.txt")
    assert raised.value.why == "it is empty"


def test_a_folder_of_configs_that_is_not_a_folder_is_an_error(tmp_path):
    """A file, a missing folder, and an impossible name."""
    (tmp_path / "file").write_text("")
    for folder, why in (
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "missing", "No such file"),
        (tmp_path / ("x" * 300), "too long"),
        ("a\0b", "null "),
    ):
        with pytest.raises(ConfigError, match="no folder") as raised:
            list_variants(folder)
        assert why in raised.value.why


@pytest.mark.parametrize("name", [b"a b.yaml", b"a\nb.yaml", b"\xff.yaml", b"-x.yaml", b"x\x1b.yaml"])
def test_a_config_with_a_name_that_no_variant_has_is_refused(tmp_path, name):
    """Names become folders."""
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text(SMALL)
    with pytest.raises(ConfigError) as raised:
        list_variants(tmp_path)
    assert "'name'" in raised.value.why and str(raised.value).replace("\n", "").isprintable()
