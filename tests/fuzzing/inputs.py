"""Good inputs for every reader, the edits that damage their files, and the functions that read them."""

from collections.abc import Callable, Sequence
import dataclasses
import io
from pathlib import Path
from random import Random
import shutil
import subprocess
import sys

from PIL import Image
import numpy as np

import hubexport
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.safetensors_file import write_safetensors
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import load_variant
from hubexport.description import describe
from hubexport.errors import HubexportError
from hubexport.evaluation.examples import parse_example
from hubexport.evaluation.tfrecords import RecordError, is_record_file, read_records, split_records
from hubexport.images.classification import read_labels
from hubexport.images.read_image import read_image
from hubexport.layouts.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.progress import Progress
from hubexport.protos import TrackableObjectGraph
from hubexport.release.check import check_release
from hubexport.release.index import read_index
from hubexport.site.catalogue import Catalogue
from tests.archives import member, tgz
from tests.fuzzing.edits import (
    Edit,
    edit_bytes,
    edit_gzipped,
    edit_json,
    edit_records,
    edit_safetensors,
    edit_start,
    edit_table,
    edit_text,
    edit_zipped,
)

_VARIANT = "mobilenet_v2_035_96"
_VALUES = {
    "layer/weights": np.linspace(-1, 1, 72, dtype=np.float32).reshape([3, 3, 2, 4]),
    "layer/weights/RMSProp": np.ones([3, 3, 2, 4], np.float32),
    "layer/biases": np.ones([4], np.float32),
    "global_step": np.array(7, np.int64),
}


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of one reader.

    Attributes:
        make: writes a good input into an empty folder.
        read: reads the input in a folder; it raises nothing but a HubexportError.
        edits: patterns of files to damage, each with the edits to choose from.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    edits: Sequence[tuple[str, Sequence[Edit]]]


def _inspect(*names: str) -> Callable[[Path], object]:
    """Returns a reader that describes the file with one of the names, and then restores a network's values from it."""

    def read(folder: Path) -> object:
        path = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
        return describe(path).as_json()

    return read


def _convert(name: str) -> Callable[[Path], object]:
    """Returns a reader that describes a network's values and converts them."""

    def read(folder: Path) -> object:
        source = folder / name if name else folder
        refused = None
        try:
            describe(source).as_json()
        except HubexportError as error:
            refused = error
        hubexport.convert(source, folder / "converted" / "out.safetensors", "safetensors")
        # A file that cannot be described must not be convertible.
        if refused:
            raise AssertionError(f"converted, though it cannot be described: {refused}")
        return None

    return read


def _write_v2(folder: Path) -> None:
    write_bundle(folder / "c", {**_VALUES, "text": b"some text"})


def _write_v2_slices(folder: Path) -> None:
    import tensorflow as tf

    values = _VALUES["layer/weights"]
    pieces = [values[:1], values[1:], _VALUES["layer/biases"]]
    slices = ["3 3 2 4 0,1:-:-:-", "3 3 2 4 1,2:-:-:-", ""]
    names = ["layer/weights", "layer/weights", "layer/biases"]
    tf.raw_ops.SaveV2(prefix=str(folder / "c"), tensor_names=names, shape_and_slices=slices, tensors=pieces)


def _write_v1(folder: Path) -> None:
    from tests.checkpoints import write_v1

    write_v1(folder / "c", _VALUES)


def _write_v1_slices(folder: Path) -> None:
    import tensorflow as tf

    values = _VALUES["layer/weights"]
    tf.raw_ops.SaveSlices(
        filename=str(folder / "c"),
        tensor_names=["layer/weights", "layer/weights", "steps"],
        shapes_and_slices=["3 3 2 4 -:-:0,1:-", "3 3 2 4 -:-:1,1:-", ""],
        data=[values[:, :, :1], values[:, :, 1:], tf.constant([1, 2], tf.int32)],
    )


def _object_graph() -> bytes:
    nodes = [{"children": [{"node_id": 1, "local_name": "a"}]}]
    nodes += [
        {"attributes": [{"name": "VARIABLE_VALUE", "full_name": name, "checkpoint_key": f"{name}{KEY_SUFFIX}"}]}
        for name in _VALUES
    ]
    return bytes(TrackableObjectGraph(nodes=nodes).SerializeToString())


def _write_objects(folder: Path) -> None:
    (folder / "graph").write_bytes(_object_graph())


def _read_objects(folder: Path) -> object:
    values = {f"{name}{KEY_SUFFIX}": value for name, value in _VALUES.items()}
    write_bundle(folder / "c", {**values, OBJECT_GRAPH_KEY: (folder / "graph").read_bytes()})
    return describe(folder / "c").as_json()


def _write_archive(folder: Path) -> None:
    inside = folder / "inside"
    inside.mkdir()
    _write_v2(inside)
    members = [member(f"./{path.name}", path.read_bytes()) for path in sorted(inside.iterdir())]
    shutil.rmtree(inside)
    (folder / "c.tgz").write_bytes(tgz(*members))


def _write_safetensors(folder: Path) -> None:
    write_safetensors(folder / "c.safetensors", _VALUES, {"format": "pt"})


def _converted(name: str, to: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        hubexport.convert("synthetic:1", folder / name, to, variant=load_variant(_VARIANT))  # type: ignore[arg-type]

    return make


def _write_keras(name: str, nested: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import tensorflow as tf

        layers = tf.keras.layers
        inner = tf.keras.Sequential([layers.Conv2D(4, 3, input_shape=(8, 8, 3)), layers.BatchNormalization()])
        if nested:
            model = tf.keras.Sequential([inner, layers.Flatten(), layers.Dense(3), layers.Dense(2)])
        else:
            model = inner
        model.compile("adam", "mse")
        model.save(folder / name)

    return make


def _write_module(version: int, packed: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        built = folder / "built"
        variant = load_variant(_VARIANT)
        (module,) = hubexport.build_modules(
            variant, [f"feature_vector/{version}"], checkpoint="synthetic:1", output_dir=built
        )
        if packed:
            files = [path for path in sorted(module.rglob("*")) if path.is_file()]
            members = [member(f"./{path.relative_to(module)}", path.read_bytes()) for path in files]
            (folder / "module.tar.gz").write_bytes(tgz(*members))
        else:
            module.rename(folder / "module")
        shutil.rmtree(built)

    return make


_CONFIG = """\
network: mobilenet_v2
depth_multiplier: 0.35
image_size: 96
num_classes: 3
dataset: made up
publisher: me
collection: models
labels: names.txt
license: Apache-2.0
modules: [classification/3]
"""


def _write_config(folder: Path) -> None:
    (folder / "small.yaml").write_text(_CONFIG)
    (folder / "names.txt").write_text("one\ntwo\nthree\n")


def _read_config(folder: Path) -> object:
    variant = load_variant("small", folder)
    output = folder / "built"
    try:
        (path,) = hubexport.build_modules(variant, checkpoint="synthetic", output_dir=output)
    except HubexportError:
        if output.exists() and any(path.is_file() for path in output.rglob("*")):
            raise AssertionError("a refused build left files behind") from None
        raise
    report = describe(path)
    assert isinstance(report, hubexport.ModuleReport) and report.manifest and not report.problems
    return None


def _write_labels(folder: Path) -> None:
    (folder / "labels.txt").write_text("background\ntabby cat\ngarçon\n", encoding="utf-8")


def _write_records(folder: Path) -> None:
    from tests.evaluation import write_records  # Starts TensorFlow, as the others inside functions do.

    write_records(folder / "data.tfrecord", [(b"an image", 1), (b"another", 2)])


def _read_records(folder: Path) -> object:
    path = folder / "data.tfrecord"
    try:
        if is_record_file(path):
            for offset, count in split_records(path, 1):
                for record in read_records(path, offset, count):
                    parse_example(record)
    except RecordError as error:
        raise HubexportError("cannot read records", why=str(error), fix="") from error
    return None


_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}


def _write_image(folder: Path) -> None:
    picture = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    for name in _FORMATS:
        content = io.BytesIO()
        picture.save(content, name)
        (folder / f"picture.{name}").write_bytes(content.getvalue())


def _read_images(folder: Path) -> object:
    failure = None
    for path in sorted(folder.glob("picture.*")):
        try:
            read_image(path)
        except HubexportError as error:
            failure = error
    if failure:
        raise failure
    return None


def _write_release(folder: Path) -> None:
    _write_config(folder)
    command = [sys.executable, "-m", "hubexport", "release", "--variant", "small", "--config-dir", folder]
    command += ["--checkpoint", "synthetic", "--output-dir", folder / "dist", "--checks", "structure.digests"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def _read_release(folder: Path) -> object:
    index = read_index(folder / "dist")
    if index:
        Catalogue(index)
    checked = check_release(folder / "dist")
    if checked.problems:
        raise HubexportError("it has problems", why=checked.problems[0].what, fix="")
    return None


def _read_values(name: str) -> Callable[[Path], object]:
    """Returns a reader that describes values and reads each of them."""

    def read(folder: Path) -> object:
        describe(folder / name).as_json()
        with open_checkpoint(resolve_source(folder / name, None, Progress()), Progress()) as opened:
            for value_name in opened.native.shapes:
                if opened.native.dtype(value_name) == "float32":
                    opened.native.read(value_name)
        return None

    return read


INPUTS: dict[str, Input] = {
    "V2 checkpoint": Input(
        _write_v2, _read_values("c"), [("c.index", [edit_bytes, edit_table]), ("c.data*", [edit_bytes])]
    ),
    "V2 in slices": Input(_write_v2_slices, _read_values("c"), [("c.index", [edit_table, edit_table, edit_bytes])]),
    "V1 checkpoint": Input(_write_v1, _read_values("c"), [("c", [edit_table, edit_bytes])]),
    "V1 in slices": Input(_write_v1_slices, _read_values("c"), [("c", [edit_table, edit_bytes])]),
    "objects": Input(_write_objects, _read_objects, [("graph", [edit_bytes])]),
    "archive": Input(_write_archive, _inspect("c.tgz"), [("c.tgz", [edit_bytes, edit_gzipped])]),
    "safetensors": Input(
        _write_safetensors, _read_values("c.safetensors"), [("c.safetensors", [edit_start, edit_safetensors])]
    ),
    "Hugging Face": Input(
        _converted("m", "huggingface"),
        _convert("m"),
        [("m/config.json", [edit_json, edit_text]), ("m/preprocessor_config.json", [edit_json, edit_text])],
    ),
    "network .h5": Input(_converted("m.h5", "keras"), _convert("m.h5"), [("m.h5", [edit_start, edit_bytes])]),
    "network .weights.h5": Input(
        _converted("m.weights.h5", "keras"), _convert("m.weights.h5"), [("m.weights.h5", [edit_start, edit_bytes])]
    ),
    "model .h5": Input(_write_keras("m.h5", True), _inspect("m.h5"), [("m.h5", [edit_bytes, edit_start])]),
    "model .keras": Input(_write_keras("m.keras", True), _inspect("m.keras"), [("m.keras", [edit_zipped, edit_bytes])]),
    "TF.js model": Input(
        _converted("m", "tfjs"),
        _inspect("m"),
        [("m/model.json", [edit_json, edit_text, edit_bytes]), ("m/*.bin", [edit_bytes])],
    ),
    "TF1 module": Input(
        _write_module(3, False),
        _inspect("module"),
        [
            ("module/saved_model.pb", [edit_bytes]),
            ("module/hubexport.json", [edit_json]),
            ("module/*/*.index", [edit_table]),
        ],
    ),
    "TF2 module": Input(
        _write_module(5, False),
        _inspect("module"),
        [
            ("module/saved_model.pb", [edit_bytes]),
            ("module/hubexport.json", [edit_json]),
            ("module/*/*.index", [edit_table]),
        ],
    ),
    "packed module": Input(
        _write_module(5, True), _inspect("module.tar.gz"), [("module.tar.gz", [edit_bytes, edit_gzipped])]
    ),
    "config": Input(_write_config, _read_config, [("small.yaml", [edit_text]), ("names.txt", [edit_text])]),
    "labels": Input(
        _write_labels, lambda folder: read_labels(folder / "labels.txt"), [("labels.txt", [edit_bytes, edit_text])]
    ),
    "TFRecords": Input(_write_records, _read_records, [("data.tfrecord", [edit_bytes, edit_records])]),
    "images": Input(_write_image, _read_images, [("picture.*", [edit_bytes, edit_start])]),
    "release": Input(
        _write_release,
        _read_release,
        [
            ("dist/index.json", [edit_json, edit_bytes]),
            ("dist/SHA256SUMS", [edit_text]),
            ("dist/*/*/*/*/*.json", [edit_json]),
            ("dist/*/*/*/*/*.tar.gz", [edit_gzipped]),
        ],
    ),
}


def make_all(folder: Path, names: Sequence[str]) -> None:
    """Writes each input into a folder of its own, and checks that its reader accepts it."""
    for name in names:
        good, copy = folder / name, folder / "copy"
        good.mkdir()
        INPUTS[name].make(good)
        shutil.copytree(good, copy)
        INPUTS[name].read(copy)
        shutil.rmtree(copy)


def damage(name: str, folder: Path, random: Random) -> None:
    """Damages one file of an input, sometimes two."""
    for pattern, edits in random.choices(INPUTS[name].edits, k=random.choice((1, 1, 1, 2))):
        path = random.choice(sorted(folder.glob(pattern)))
        content, edit = path.read_bytes(), random.choice(edits)
        try:
            damaged = edit(content, random)
        except Exception:  # After the first edit, this one cannot parse the content.
            damaged = edit_bytes(content, random)
        path.write_bytes(damaged)
