"""Uploaded photographs: images are classified, and whatever else comes, the server goes on and nothing is left."""

import asyncio
import dataclasses
import io
import json
import os
from pathlib import Path
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib

from PIL import Image
import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.errors import HubexportError, ImageError, ModuleError
from hubexport.images.classification import Score
from hubexport.release.packing import pack
from hubexport.serve import trials
from hubexport.serve.trial_worker import TrialTask
from hubexport.serve.trials import BusyError, TrialLimits, Trials
from hubexport.variants import ModuleSpec
from tests.conftest import SMALL
from tests.data import DATA, REAL_ARCHIVE, REAL_MOBILENET_V1, REAL_MOBILENET_V1_TOP3, needs_data

_NAMES = [f"name {index}" for index in range(7)]
_NOISE = np.random.RandomState(0).randint(0, 256, [64, 96, 3]).astype(np.uint8)
# The only environment variables that a process may have.
_VARIABLES = {
    *("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8"),
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TMPDIR"),
    "LC_CTYPE",  # Python's own, where there is no locale.
}
_SLEEP = "import time; time.sleep(60)"
# Lets a program print its answer.
_PRINTED = """\
import atexit, io, sys
sys.stdout = io.StringIO()
atexit.register(lambda: open(sys.argv[2], "w").write(sys.stdout.getvalue()))
"""
_WORK = "import hubexport.serve.trial_worker as worker\nworker.answer_task(worker.classify)\n"


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, Path]:
    """Archives of small untrained modules, by kind and version; `labelled` brings labels."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "small.yaml").write_text(SMALL)
    names = ["classification/2", "classification/5", "feature_vector/2"]
    specs = [ModuleSpec.parse(name) for name in names]
    built = build_modules(load_variant("small", folder), specs, checkpoint="synthetic:1", output_dir=folder)
    archives = {name: folder / f"{number}.tar.gz" for number, name in enumerate(names)}
    for directory, archive in zip(built, archives.values()):
        pack(directory, archive, mtime=0)
    (built[1] / "assets").mkdir(exist_ok=True)
    (built[1] / "assets" / "labels.txt").write_text("\n".join(_NAMES))
    pack(built[1], folder / "labelled.tar.gz", mtime=0)
    return {**archives, "labelled": folder / "labelled.tar.gz"}


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """The folder that has the folders of the processes."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Puts another program in the place of the worker; what it prints is its answer."""

    def replace(program):
        (tmp_path / "worker.py").write_text(_PRINTED + program)
        monkeypatch.setattr(trials, "_WORKER", tmp_path / "worker.py")

    return replace


def _classified(archive, *images, **options):
    """The scores of images, or the error of each."""

    async def run():
        trials = Trials(processes=2, waiting=len(images), **options)
        return await asyncio.gather(*(trials.classify(archive, image) for image in images), return_exceptions=True)

    return asyncio.run(run())


def _error(archive, image, **options):
    [error] = _classified(archive, image, **options)
    assert isinstance(error, HubexportError), repr(error)
    return error


def _saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _noise(format="PNG", **options):
    return _saved(Image.fromarray(_NOISE), format, **options)


def _png(width, height, *rows):
    """A PNG file of one bit per pixel, which may announce more rows than it has."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"".join(rows), 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("bird.jpg", _noise("JPEG"))
    return file.getvalue()


def _processes(scratch):
    """The processes that have a folder's name among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if os.fsencode(scratch) in path.read_bytes() else []
        except OSError:  # It has just ended.
            pass
    return found


def _leftovers(scratch):
    return [*_processes(scratch), *scratch.iterdir()]


async def _until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never happens")


@needs_data
@pytest.mark.parametrize(
    ("variant", "checkpoint", "published"),
    [
        ("mobilenet_v2_100_224", REAL_ARCHIVE, DATA / "images" / "expected_top3.json"),
        pytest.param("mobilenet_v1_100_224", REAL_MOBILENET_V1, REAL_MOBILENET_V1_TOP3, marks=pytest.mark.slow),
    ],
)
def test_photographs_get_the_known_classes(tmp_path, scratch, variant, checkpoint, published):
    """With the real weights: the classes, names and probabilities that an independent program computed.

    Version 5 of the second takes images of any size, and gets them in its default one.
    """
    [directory] = build_modules(
        load_variant(variant),
        [ModuleSpec.parse("classification/5")],
        checkpoint=str(checkpoint),
        output_dir=tmp_path / "modules",
    )
    pack(directory, tmp_path / "5.tar.gz", mtime=0)
    expected = json.loads(published.read_text())
    names = ["bird.jpg", "grace_hopper.jpg"]
    images = [(DATA / "images" / name).read_bytes() for name in names]
    results = _classified(tmp_path / "5.tar.gz", *images, top=3)
    for name, scores in zip(names, results):
        assert [(score.index, score.label) for score in scores] == [
            (index, label) for index, label, _ in expected[name]
        ]
        assert [score.probability for score in scores] == pytest.approx([one[2] for one in expected[name]], abs=6e-5)
    assert not _leftovers(scratch)


@pytest.mark.slow
def test_a_picture_has_the_same_classes_in_all_formats(modules):
    """Also with other data behind it; and EXIF data rotate a photograph."""
    turned = Image.Exif()
    turned[0x0112] = 6
    images = [
        *(_noise(format) for format in ("PNG", "BMP")),
        _noise("WEBP", lossless=True),
        _noise("PNG") + b"<script>alert(1)</script>" + _zip(),
        _saved(Image.fromarray(_NOISE).transpose(Image.Transpose.ROTATE_90), "PNG", exif=turned),
    ]
    first, *others = _classified(modules["classification/5"], *images)
    assert len(first) == 5 and first[0].probability > first[4].probability > 0
    assert others == [first] * len(others)
    [upside_down] = _classified(modules["classification/5"], _saved(Image.fromarray(_NOISE[::-1]), "PNG"))
    assert upside_down != first, "the module has to see what way up a picture is, or the rest proves nothing"


@pytest.mark.slow
def test_of_an_animation_the_first_frame_is_classified(modules):
    """In GIF and in WebP."""
    gray, white = Image.new("L", (64, 64), 90), Image.new("L", (64, 64), 255)
    images = [_saved(gray, "GIF", save_all=True, append_images=[white]), _saved(gray, "GIF"), _saved(white, "GIF")]
    images += [_saved(gray.convert("RGB"), "WEBP", save_all=True, append_images=[white.convert("RGB")], lossless=True)]
    animated, still, other, webp = _classified(modules["classification/2"], *images)
    assert animated == still == webp != other


@pytest.mark.slow
def test_labels_are_the_modules_own_or_those_of_the_server(modules, tmp_path):
    """Neither is used if it has more or fewer labels than there are classes."""
    others = tmp_path / "labels.txt"
    for names, module, expected in [
        ([name.upper() for name in _NAMES], "classification/5", "NAME {}"),
        ([name.upper() for name in _NAMES], "labelled", "name {}"),
        (["too", "few"], "classification/5", None),
        (["too", "few"], "labelled", "name {}"),
    ]:
        others.write_text("\n".join(names) + "\n")
        [scores] = _classified(modules[module], _noise(), labels=others, top=7)
        assert sorted(score.index for score in scores) == list(range(7))
        assert [score.label for score in scores] == [expected and expected.format(score.index) for score in scores]
        assert sum(score.probability for score in scores) == pytest.approx(1)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        pytest.param(b"", "not a JPEG", id="empty"),
        pytest.param(b"no picture " * 100, "not a JPEG", id="text"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not a JPEG", id="svg"),
        pytest.param(_zip(), "not a JPEG", id="zip"),
        pytest.param(_noise("TIFF"), "not a JPEG", id="tiff"),
        pytest.param(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3), "not a JPEG", id="psd"),
        pytest.param(_noise("EPS"), "not a JPEG", id="eps"),
        pytest.param(_noise("PDF"), "not a JPEG", id="pdf"),
        pytest.param(_noise("JPEG")[:-200], "truncated", id="truncated"),
        pytest.param(_png(50_000, 50_000, *[bytes(1 + 6250)] * 50_000), "178 million pixels", id="bomb"),
        pytest.param(_png(2**31 - 1, 2**31 - 1), "178 million pixels", id="header"),
    ],
)
@pytest.mark.slow
def test_files_that_are_not_whole_images_are_refused(modules, scratch, image, why):
    """By their content, quickly, and in words for the person who uploaded them."""
    error = _error(modules["classification/5"], image)
    assert isinstance(error, ImageError) and why in error.why
    assert "cannot read the image" in error.what and "choose an undamaged JPEG, PNG" in error.fix
    assert not _leftovers(scratch)


def test_a_picture_that_takes_too_much_memory_is_refused(modules, scratch):
    """However small its file is."""
    image = _png(10_000, 10_000, *[bytes(1 + 1250)] * 10_000)
    assert len(image) < 20_000
    error = _error(modules["classification/5"], image, limits=TrialLimits(memory_bytes=400 << 20))
    assert isinstance(error, ImageError) and "too much memory" in error.why
    assert not _leftovers(scratch)


def test_an_image_may_not_be_larger_than_the_limit(modules, worker):
    """No process is started for one that is."""
    image = _noise()
    limits = TrialLimits(image_bytes=len(image))
    [scores] = _classified(modules["classification/5"], image, limits=limits)
    assert isinstance(scores[0], Score)
    worker("raise SystemExit('a process was started')")
    error = _error(modules["classification/5"], image + b"\0", limits=limits)
    assert isinstance(error, ImageError) and f"more than {len(image):,} bytes" in error.why


def _run_worker(modules, folder, image, program=_WORK, **task):
    """The answer of a program, or its exit status."""
    (folder / "image").write_bytes(image)
    (folder / "module").mkdir()
    facts = TrialTask(
        archive=str(modules["classification/5"]),
        image=str(folder / "image"),
        module=str(folder / "module"),
        labels=None,
        top=2,
        image_bytes=10 << 20,
        memory_bytes=2 << 30,
        cpu_seconds=20,
    )
    files = folder / "task.json", folder / "answer.json"
    files[0].write_text(json.dumps(dataclasses.asdict(dataclasses.replace(facts, **task))))
    status = subprocess.run([sys.executable, "-c", program, *files], check=False).returncode
    return status or json.loads(files[1].read_text())


def test_the_worker_limits_itself_before_it_imports_decoders(modules, tmp_path):
    """With every limit that the system has for this."""
    program = """
import json, pathlib, resource as r, sys
import hubexport.serve.trial_worker as worker
def classify(task):
    limits = r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_NPROC, r.RLIMIT_CORE
    answer = json.dumps([[r.getrlimit(limit) for limit in limits], sorted(sys.modules)])
    pathlib.Path(sys.argv[2]).write_text(answer)
    raise SystemExit
worker._classify = classify
worker.answer_task(worker.classify)
"""
    limits, imported = _run_worker(modules, tmp_path, b"", program, memory_bytes=1 << 30)
    assert limits == [[most, most] for most in (1 << 30, 20, 1 << 30, 32, 0, 0)]
    assert not {"PIL", "numpy", "google.protobuf"} & set(imported)


def test_the_worker_never_imports_tensorflow(modules, tmp_path):
    """It would take seconds, and more memory than there is."""
    program = f"{_WORK}import sys; sys.exit('tensorflow' in sys.modules)"
    assert len(_run_worker(modules, tmp_path, _noise(), program)["top"]) == 2


def test_the_worker_reads_no_more_than_it_is_told(modules, tmp_path):
    """Even if the file is larger."""
    answer = _run_worker(modules, tmp_path, b"x" * 101, image_bytes=100)
    assert answer["error"]["why"] == "it has more than 100 bytes"


@pytest.mark.slow
def test_a_worker_that_computes_without_end_is_ended_by_the_system(modules, tmp_path):
    """Even if the server no longer runs."""
    program = """
import hubexport.serve.trial_worker as worker
def classify(task):
    while True:
        pass
worker._classify = classify
worker.answer_task(worker.classify)
"""
    assert _run_worker(modules, tmp_path, b"", program, cpu_seconds=1) in (-signal.SIGXCPU, -signal.SIGKILL)


def test_a_worker_that_takes_too_long_is_killed(modules, scratch, worker):
    """With all processes that it has started."""
    worker(f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{_SLEEP}', sys.argv[1]])")
    error = _error(modules["classification/5"], _noise(), limits=TrialLimits(seconds=1))
    assert isinstance(error, ImageError) and error.why == "classifying it takes more than 1 seconds"
    assert not _leftovers(scratch)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGXCPU", "SIGSEGV"])
def test_a_worker_that_is_killed_is_the_images_fault(modules, scratch, worker, name):
    """The system kills it when it takes too much memory, or when a decoder crashes."""
    worker(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    error = _error(modules["classification/5"], _noise())
    assert isinstance(error, ImageError) and "more time or memory" in error.why
    assert not _leftovers(scratch)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("pass", id="none"),
        pytest.param("print('{')", id="no-json"),
        pytest.param("print('[]')", id="other-json"),
        pytest.param("""print('{"top": [{"index": 1, "label": null, "probability": NaN}]}')""", id="nan"),
        pytest.param("""print('{"top": [{"index": 1, "label": null, "probability": 2}]}')""", id="no-probability"),
        pytest.param("""print('{"top": [{"index": -1, "label": null, "probability": 0.5}]}')""", id="no-index"),
        pytest.param("""print('{"error": {"what": "a secret"}}')""", id="half-an-error"),
        pytest.param(
            """print(' ' * (32 << 20) + '{"top": [{"index": 1, "label": null, "probability": 0.5}]}')""", id="very-long"
        ),
    ],
)
def test_only_a_valid_answer_is_accepted(modules, worker, program):
    """The image's author may have taken over the decoder."""
    worker(program)
    error = _error(modules["classification/5"], _noise())
    assert isinstance(error, ModuleError) and "secret" not in str(error)


def test_the_output_of_a_worker_is_logged_and_not_shown(modules, worker, caplog):
    """Only its end is logged."""
    worker("import sys; sys.stderr.write('a secret\\n\\x1b[31m' * 100_000); sys.exit(1)")
    error = _error(modules["classification/5"], _noise())
    assert isinstance(error, ModuleError) and "secret" not in str(error)
    [message] = [record.getMessage() for record in caplog.records if record.name == trials.__name__]
    assert "a secret" in message and message.isprintable() and len(message) < 10_000


@pytest.mark.parametrize("damage", ["features", "cut", "missing"])
def test_a_module_that_cannot_classify_is_not_the_images_fault(modules, scratch, tmp_path, caplog, damage):
    """The log says what is wrong; the error shows no path to the person who uploaded the image."""
    archive = {"features": modules["feature_vector/2"]}.get(damage, tmp_path / "2.tar.gz")
    if damage == "cut":
        archive.write_bytes(modules["classification/2"].read_bytes()[:9000])
    error = _error(archive, _noise())
    assert isinstance(error, ModuleError) and "/" not in str(error)
    assert str(archive) in caplog.text
    assert not _leftovers(scratch)


def test_a_process_that_cannot_be_started_is_not_the_images_fault(modules, scratch, monkeypatch, caplog):
    """The error does not quote the system."""
    monkeypatch.setattr(sys, "executable", "/missing/python")
    error = _error(modules["classification/5"], _noise())
    assert isinstance(error, ModuleError) and "python" not in str(error)
    assert "/missing/python" in caplog.text and not _leftovers(scratch)


def test_a_worker_knows_nothing_of_the_servers_environment(modules, scratch, worker, monkeypatch):
    """It has neither the server's variables and open files nor its current folder."""
    monkeypatch.setenv("HUBEXPORT_SECRET", "password")
    monkeypatch.setenv("PYTHONSTARTUP", "/tmp/other.py")
    worker("""
import json, os
known = json.dumps([dict(os.environ), os.getcwd(), sorted(os.listdir('/dev/fd'))])
print(json.dumps({'error': {'what': known, 'why': '', 'fix': ''}}))
""")
    with open(os.devnull, "rb") as file:
        os.set_inheritable(file.fileno(), True)
        environment, folder, files = json.loads(_error(modules["classification/5"], _noise()).what)
    assert set(environment) <= _VARIABLES
    assert environment["OPENBLAS_NUM_THREADS"] == "1" and environment["PYTHONSAFEPATH"] == "1"
    assert Path(folder).parent == scratch
    assert files == ["0", "1", "2", "3"], "3 is the folder that is listed"


def test_a_cancelled_request_leaves_nothing(modules, scratch, worker):
    """At whatever moment it is cancelled, and however often."""
    worker(_SLEEP)

    async def run():
        trials = Trials(processes=20, waiting=0)
        for delay in [None, 0.1, *(number / 2000 for number in range(12))]:
            request = asyncio.create_task(trials.classify(modules["classification/5"], _noise()))
            if delay is None:
                await _until(lambda: _processes(scratch))
            else:
                await asyncio.sleep(delay)
            for _ in range(3):
                request.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await request
        await _until(lambda: not _leftovers(scratch))

    asyncio.run(run())
    assert not _leftovers(scratch)


def test_the_queue_is_bounded(modules, scratch, worker):
    """Cancelled requests make room, whether they are waiting or running."""
    worker(_SLEEP)

    async def run():
        trials = Trials(processes=1, waiting=2)
        requests = [asyncio.create_task(trials.classify(modules["classification/5"], _noise())) for _ in range(3)]
        await _until(lambda: _processes(scratch))
        with pytest.raises(BusyError, match="the server is busy"):
            await trials.classify(modules["classification/5"], _noise())
        await asyncio.sleep(0.2)
        assert len(_processes(scratch)) == 1, "the others wait"
        for index in (2, 0):
            requests[index].cancel()
            with pytest.raises(asyncio.CancelledError):
                await requests[index]
        await _until(lambda: len(trials._trials) == 1)
        requests[0] = asyncio.create_task(trials.classify(modules["classification/5"], _noise()))
        await _until(lambda: len(trials._trials) == 2 and _processes(scratch))
        await trials.close()
        assert not _leftovers(scratch), "closed means that all have ended"
        for request in requests[:2]:
            with pytest.raises(asyncio.CancelledError):
                await request
        with pytest.raises(BusyError):
            await trials.classify(modules["classification/5"], _noise())

    asyncio.run(run())


@pytest.mark.slow
def test_twenty_uploads_at_once_end_and_leave_nothing(modules, scratch):
    """Valid images and others."""
    images = [_noise(), b"no picture", _noise("JPEG")[:-200], b"<svg/>"] * 5

    async def run():
        trials = Trials(processes=2, waiting=18)
        calls = (trials.classify(modules["classification/2"], image) for image in images)
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(run())
    assert [type(result) for result in results] == [tuple, ImageError, ImageError, ImageError] * 5
    assert results[0] == results[4]
    assert not _leftovers(scratch)


def test_the_server_does_not_import_pillow():
    """Only the processes decode images."""
    program = "import sys, hubexport.serve.trials; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
