"""`hubexport features`: the vectors are right, belong to their images, and appear complete or not at all."""

import argparse
import importlib.util
from pathlib import Path

from PIL import Image
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow_hub as hub

from hubexport import ModuleSpec, build_modules
from hubexport.cli import features as command
from hubexport.config_files import load_variant
from hubexport.errors import ImageError, OutputError, UsageError
from hubexport.extras import install_command
from hubexport.images.feature_extraction import check_output, extract_features
from tests.archives import member, tgz
from tests.open_interface import OpenInterface

_SIZE = 96


class _Echo:
    """A module with two features: an image's intensity, 0 to 255, and twice the intensity."""

    interface = OpenInterface(
        path=Path("nowhere"),
        shown_as="echo",
        image_shape=(2, 2, 3),
        input_range=(0, 1),
        output_shape=(2,),
        output_kind="features",
    )

    engine = "arithmetic"

    def features(self, images):
        levels = np.round(images[:, 0, 0, :1] * 255)
        return np.concatenate([levels, 2 * levels], axis=1)


def _images(folder, count, unreadable=()):
    """Writes images whose intensity is their number."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:04}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if number in unreadable:
            path.write_bytes(b"no image")
        else:
            Image.new("L", (2, 2), number % 256).save(path)
    return paths


def _extract(images, output, skipped=None, **options):
    skip = pytest.fail if skipped is None else lambda path, error: skipped.append(path)
    return extract_features(_Echo(), images, output, unreadable=skip, **options)


def _read(output):
    """Reads names and vectors as other programs do."""
    if output.suffix == ".npy":
        return Path(f"{output}.names.txt").read_text().splitlines(), np.load(output, mmap_mode="r")
    table = pq.read_table(output)
    return table["file"].to_pylist(), np.stack(table["features"].to_numpy())


def _run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """Modules of each kind in each format."""
    modules = ("feature_vector/3", "classification/3", "feature_vector/5", "classification/5")
    specs = [ModuleSpec.parse(module) for module in modules]
    folder = tmp_path_factory.mktemp("modules")
    paths = build_modules(load_variant("mobilenet_v2_035_96"), specs, checkpoint="synthetic:1", output_dir=folder)
    return dict(zip(modules, paths, strict=True))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A folder with three images of the modules' size, so that nothing is resized."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(3):
        noise = np.random.RandomState(number).randint(0, 256, [_SIZE, _SIZE, 3]).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def wanted(built, photographs) -> np.ndarray:
    """The feature vectors that tensorflow_hub's loader computes for these images."""
    images = [np.asarray(Image.open(path), np.float32) / 255 for path in sorted(photographs.iterdir())]
    module = hub.load(str(built["feature_vector/5"]))
    return module(np.stack(images)).numpy()


@pytest.mark.parametrize(
    "module",
    [
        "feature_vector/3",
        pytest.param("classification/5", marks=pytest.mark.slow),
        *(pytest.param(module, marks=pytest.mark.prove) for module in ("classification/3", "feature_vector/5")),
    ],
)
def test_features_are_what_tensorflow_hub_computes(built, photographs, wanted, module, tmp_path, capsys):
    """For modules of both kinds and formats, packed and unpacked."""
    source = built[module]
    if module == "classification/5":
        files = [path for path in source.rglob("*") if path.is_file()]
        source = tmp_path / "packed.tar.gz"
        source.write_bytes(tgz(*(member(str(path.relative_to(built[module])), path.read_bytes()) for path in files)))
    output = tmp_path / "f.npy"
    assert _run(source, photographs, "--output", output, "--batch-size", 2) == 0
    names, found = _read(output)
    assert names == [str(path) for path in sorted(photographs.iterdir())]
    assert (found.dtype, found.shape) == (np.float32, (3, 1280))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    printed = capsys.readouterr()
    assert printed.out == f"{output}\n{output}.names.txt\n"
    assert f"resized to {_SIZE} x {_SIZE} pixels" in printed.err


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_files_that_cannot_be_read_leave_no_holes(tmp_path, suffix):
    """Each row belongs to the image that the names list."""
    images = _images(tmp_path / "in", 9, unreadable=(0, 4, 8))
    skipped = []
    assert _extract(images, tmp_path / f"f{suffix}", skipped, batch_size=2)[0] == tmp_path / f"f{suffix}"
    names, found = _read(tmp_path / f"f{suffix}")
    assert skipped == [images[0], images[4], images[8]]
    assert names == [str(images[number]) for number in (1, 2, 3, 5, 6, 7)]
    np.testing.assert_array_equal(found, np.array([[n, 2 * n] for n in (1, 2, 3, 5, 6, 7)], np.float32))


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_files_of_many_rows_are_sound(tmp_path, suffix):
    """More rows than the header's first digits hold, and than a row group of Parquet."""
    images = _images(tmp_path / "in", 1200)
    output = tmp_path / f"f{suffix}"
    _extract(images, output, batch_size=50)
    names, found = _read(output)
    assert names == [str(path) for path in images]
    np.testing.assert_array_equal(found[:, 0], np.arange(1200) % 256)
    np.testing.assert_array_equal(found[:, 1], np.arange(1200) % 256 * 2)
    if suffix == ".npy":
        assert found.flags.c_contiguous and output.stat().st_size == 128 + 1200 * 2 * 4
    else:
        assert pq.ParquetFile(output).num_row_groups == 2
        assert str(pq.read_schema(output).field("features").type) == "fixed_size_list<element: float>[2]"


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_rows_are_written_as_they_come(tmp_path, suffix, monkeypatch):
    """So that memory does not grow with the number of images."""
    images = _images(tmp_path / "in", 6)
    monkeypatch.setattr("hubexport.images.feature_extraction._ROWS_PER_GROUP", 2)
    sizes = []

    def features(module, pictures):
        sizes.append(sum(path.stat().st_size for path in tmp_path.glob(f".hubexport-*/f{suffix}")))
        return np.zeros([len(pictures), 100_000], np.float32)

    monkeypatch.setattr(_Echo, "features", features)
    _extract(images, tmp_path / f"f{suffix}", batch_size=2)
    least = 2 * 100_000 * 4 if suffix == ".npy" else 100  # Parquet compresses zeros.
    assert sizes[0] == 0 and sizes[2] - sizes[1] >= least
    assert suffix == ".npy" or pq.ParquetFile(tmp_path / "f.parquet").num_row_groups == 3


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_existing_output_is_kept_without_overwrite(tmp_path, suffix):
    """With --overwrite it is replaced."""
    output = tmp_path / "out" / f"f{suffix}"
    images = _images(tmp_path / "in", 3)
    _extract(images[:1], output)
    before = _files(tmp_path / "out")
    with pytest.raises(OutputError, match="already exists"):
        _extract(images, output)
    assert _files(tmp_path / "out") == before
    _extract(images, output, overwrite=True)
    assert len(_read(output)[1]) == 3


def test_an_existing_file_of_names_is_kept_too(tmp_path):
    """The user may have written them."""
    (tmp_path / "f.npy.names.txt").write_text("mine")
    with pytest.raises(OutputError, match="names.txt already exists"):
        check_output(tmp_path / "f.npy", overwrite=False)
    with pytest.raises(OutputError, match="names.txt already exists"):
        _extract(_images(tmp_path / "in", 1), tmp_path / "f.npy")
    assert _files(tmp_path).keys() == {"f.npy.names.txt", "in/0000.png"}


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path, suffix, error, monkeypatch):
    """Only the previous files stay."""
    images = _images(tmp_path / "in", 6)
    output = tmp_path / "out" / f"f{suffix}"
    _extract(images[:1], output)
    before = _files(tmp_path / "out")
    compute = _Echo.features

    def features(module, pictures):
        if round(float(pictures[0, 0, 0, 0] * 255)) >= 4:
            raise error
        return compute(module, pictures)

    monkeypatch.setattr(_Echo, "features", features)
    with pytest.raises(error):
        _extract(images, output, batch_size=2, overwrite=True)
    assert _files(tmp_path / "out") == before


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_nothing_is_written_without_images(tmp_path, suffix):
    """If no image can be read."""
    images = _images(tmp_path / "in", 2, unreadable=(0, 1))
    with pytest.raises(ImageError, match="no image can be read"):
        _extract(images, tmp_path / "out" / f"f{suffix}", skipped=[])
    assert _files(tmp_path / "out") == {}


def test_each_file_name_is_written_as_one_line(tmp_path):
    """Only unusual names are escaped."""
    (tmp_path / "in").mkdir()
    names = [b"a b\xc3\xa4\\n.png", b"b\n.png", b"c\xff.png"]
    images = [Path(f"{tmp_path}/in/{name.decode('utf-8', 'surrogateescape')}") for name in names]
    for image in images:
        Image.new("L", (2, 2)).save(image, "PNG")
    for output in (tmp_path / "f.npy", tmp_path / "f.parquet"):
        _extract(images, output)
        assert [name.rpartition("/")[2] for name in _read(output)[0]] == ["a bä\\n.png", "b\\n.png", "c\\xff.png"]


def test_formats_that_cannot_be_written_are_refused_early(tmp_path, monkeypatch):
    """Before the module is opened. The error gives the fix."""
    [image] = _images(tmp_path / "in", 1)
    with pytest.raises(UsageError) as raised:
        _run("missing", image, "--output", tmp_path / "f.csv")
    assert raised.value.why == "the file's name must end in .npy or .parquet"
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find_spec(name))
    with pytest.raises(UsageError) as raised:
        _run("missing", image, "--output", tmp_path / "f.parquet")
    assert install_command(["parquet"]) in raised.value.fix


def test_outputs_that_cannot_be_written_are_errors(tmp_path):
    """A directory of the output's name, and a parent that is a file."""
    images = _images(tmp_path / "in", 1)
    (tmp_path / "d.npy").mkdir()
    for output in (tmp_path / "d.npy", images[0] / "f.npy"):
        with pytest.raises(OutputError, match=f"cannot write {output}"):
            _extract(images, output, overwrite=True)
    assert _files(tmp_path).keys() == {"in/0000.png"}


def test_skipped_images_are_counted(built, photographs, tmp_path, capsys):
    """And the others are processed."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    module, output = built["feature_vector/3"], tmp_path / "f.npy"
    assert _run(module, photographs / "0.png", tmp_path / "bad.png", "--output", output) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2 and warnings[1] == "WARNING 1 of 2 images skipped"
    assert len(_read(output)[1]) == 1
