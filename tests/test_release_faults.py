"""Faults during a release: published files stay intact, and the next run completes the release."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import errno
import functools
import json
import os
from pathlib import Path
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from hubexport.build import BuildOrder
from hubexport.config_files import load_variant
from hubexport.errors import ReleaseError
from hubexport.progress import Progress
from hubexport.release import make_artifact, release_modules
from hubexport.release.check import check_release
from hubexport.release.options import ReleaseOptions
from tests.command import command, environment
from tests.faulty_disk import hide_free_space
from tests.release_misfortunes import (
    die_before,
    disprove_two,
    fill_at,
    jump,
    obey_modes,
    rewrite_at,
    use_for_temporary,
    wait_at,
)
from tests.release_runs import (
    CHEAP,
    Done,
    Release,
    contents,
    hidden,
    listed,
    make_release,
    two_variants,
    wait_for,
    write_config,
)

pytestmark = pytest.mark.faults

_KILLS = 50
_INDEX = "index.json"
# A new index replaces these files; all other listed files stay as they are.
_OF_THE_INDEX = {_INDEX, "SHA256SUMS"}
_ONE, _TWO = "google/imagenet/one/classification/3", "google/imagenet/two/feature_vector/5"
_ERROR = re.compile(r"^ERROR (.+)\n  why: (.+)\n((?:    - .+\n)*)  fix: (.+)\n", re.MULTILINE)

_Files = dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Undisturbed:
    """Releases that were made without a fault.

    Attributes:
        arguments: the arguments of the command, without the folder, which comes last.
        first: the folder of a release of `one` alone.
        files: the digests of a release of both variants.
        seconds: the time that it takes to make both.
    """

    arguments: tuple[str | Path, ...]
    first: Path
    files: _Files
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> _Undisturbed:
    """The release that all others are compared with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    given = ("--config-dir", two_variants(folder / "configs"), "--checkpoint", "synthetic:1", *CHEAP)
    arguments = ("--variant", "one,two", *given, "--output-dir")
    assert make_release("--variant", "one", *given, "--output-dir", folder / "first").status == 0
    started = time.monotonic()
    assert make_release(*arguments, folder / "both").status == 0
    seconds = time.monotonic() - started
    assert set(listed(folder / "both")) > set(listed(folder / "first"))
    return _Undisturbed(arguments, folder / "first", contents(folder / "both"), seconds)


@pytest.fixture(scope="module")
def alone(undisturbed) -> _Undisturbed:
    """The same release of `one` alone."""
    arguments = ["one" if argument == "one,two" else argument for argument in undisturbed.arguments]
    files = contents(undisturbed.first)
    return dataclasses.replace(undisturbed, arguments=tuple(arguments), files=files, seconds=undisturbed.seconds / 2)


def _assert_intact(directory: Path, before: _Files) -> None:
    """Asserts that published files stayed, and that the release is complete and correct."""
    now = contents(directory)
    kept = before.keys() - _OF_THE_INDEX
    assert {name: now.get(name) for name in kept} == {name: before[name] for name in kept}
    if before or _INDEX in now:
        assert listed(directory)
        assert check_release(directory, Progress()).problems == ()


def _assert_old_or_new(undisturbed: _Undisturbed, directory: Path, before: _Files) -> None:
    """Asserts that the release is the one from before or the complete one, and nothing in between."""
    _assert_intact(directory, before)
    assert contents(directory).get(_INDEX) in (before.get(_INDEX), undisturbed.files[_INDEX])


def _assert_completed(undisturbed: _Undisturbed, directory: Path) -> None:
    done = make_release(*undisturbed.arguments, directory)
    assert done.status == 0, done.stderr
    assert contents(directory) == undisturbed.files


def _assert_failed_with(done: Done, *words: str) -> None:
    """Asserts that the command failed with errors of three lines, and printed nothing else but its table."""
    assert done.status == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("ERROR ") == len(_ERROR.findall(done.stderr)) > 0, done.stderr
    for word in words:
        assert word in done.stderr


class _Completions:
    """Completes releases by another run, each state of a release only once."""

    def __init__(self, undisturbed: _Undisturbed) -> None:
        self._undisturbed = undisturbed
        self.seen: set[frozenset[tuple[str, str]]] = set()

    def expect(self, directory: Path) -> None:
        """Completes a release, and compares it with the undisturbed one."""
        state = frozenset(contents(directory).items())
        if state not in self.seen:
            self.seen.add(state)
            _assert_completed(self._undisturbed, directory)


def _until_undisturbed(disturb: Callable[[int], bool]) -> int:
    """Disturbs one run at its first step, another at its second, and so on; returns the number of steps."""
    number = 1
    with ThreadPoolExecutor(2) as pool:
        while all(pool.map(disturb, (number, number + 1))):
            number += 2
    return number


# Killed


@pytest.mark.prove
def test_a_release_killed_at_any_moment_is_completed_by_the_next_run(undisturbed, alone, tmp_path):
    """At 50 moments, with one artifact, with two, and with one that joins a published one."""
    chances = random.Random(6)
    # What is made, what exists before, and how long it takes.
    cases = [
        (alone, None, alone.seconds),
        (undisturbed, None, undisturbed.seconds),
        (undisturbed, undisturbed.first, alone.seconds),
    ]
    moments = [chances.random() for _ in range(_KILLS)]

    def kill(number: int) -> bool:
        case, published, seconds = cases[number % len(cases)]
        directory = tmp_path / str(number)
        if published:
            shutil.copytree(published, directory)
        before = contents(directory)
        under_way = Release(*case.arguments, directory)
        time.sleep(moments[number] * seconds)
        under_way.kill()
        status = under_way.wait().status
        _assert_old_or_new(case, directory, before)
        _assert_completed(case, directory)
        shutil.rmtree(directory)
        return status == -signal.SIGKILL

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(kill, range(_KILLS))) > _KILLS / 2


@pytest.mark.parametrize("published", [False, True])
def test_a_release_killed_between_any_two_steps_is_completed_by_the_next_run(undisturbed, alone, tmp_path, published):
    """Before each system call that changes the release's folder."""
    case = undisturbed if published else alone
    completions = _Completions(case)

    def kill(number: int) -> bool:
        directory = tmp_path / str(number)
        if published:
            shutil.copytree(case.first, directory)
        before = contents(directory)
        deadly = functools.partial(die_before, directory, number)
        status = make_release(*case.arguments, directory, before=deadly).status
        assert status in (0, -signal.SIGKILL)
        _assert_old_or_new(case, directory, before)
        completions.expect(directory)
        shutil.rmtree(directory)
        return status != 0

    # The files of each artifact, the index and other shared files, folders, scratch folders and the lock.
    assert _until_undisturbed(kill) > 12
    # From an artifact's first file to the index.
    assert len(completions.seen) > 8


def test_the_next_run_takes_unlisted_artifacts_out_of_the_sums(undisturbed, tmp_path):
    """SHA256SUMS is written before the index. An artifact that only it lists is made differently by the next run."""
    directory = tmp_path / "dist"
    shutil.copytree(undisturbed.first, directory)
    before = contents(directory)
    assert make_release(
        *undisturbed.arguments, directory, before=functools.partial(die_before, directory, 1, _INDEX)
    ).status
    assert _TWO in (directory / "SHA256SUMS").read_text()
    _assert_old_or_new(undisturbed, directory, before)
    otherwise = (*undisturbed.arguments, directory, "--url", "https://models.example.org")
    last = f"{_TWO}.json"
    assert make_release(*otherwise, before=functools.partial(die_before, directory, 1, last)).status == -signal.SIGKILL
    _assert_old_or_new(undisturbed, directory, before)
    _assert_completed(undisturbed, directory)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(signal.SIGINT, ".hubexport-*/**/*.tar.gz", id="ctrl-c while building"),
        pytest.param(signal.SIGTERM, "google/**/?.json", id="kill while proving"),
        pytest.param(signal.SIGKILL, "google/**/?.json", id="SIGKILL while proving"),
    ],
)
def test_an_interrupted_release_of_two_processes_ends_at_once(tmp_path, number, moment):
    """It leaves no process and, if it can, no unfinished files. The next run makes the rest."""
    configs, temporary = tmp_path / "configs", tmp_path / "tmp"
    temporary.mkdir()
    for name in ("one", "two", "three"):
        write_config(configs, name, "classification/3", "classification/5", "feature_vector/5")
    given = ("--variant", "one,two,three", "--config-dir", configs, "--checkpoint", "synthetic:1", *CHEAP)
    directory = tmp_path / "dist"
    process = subprocess.Popen(
        command("release", *given, "--jobs", "2", "--output-dir", directory),
        env=environment({"TMPDIR": str(temporary)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def reached() -> bool:
        # A folder that glob is about to list may have been renamed by the release.
        with contextlib.suppress(FileNotFoundError):
            return bool(list(directory.glob(moment))) or process.poll() is not None
        return False

    wait_for(reached)
    # Like Ctrl-C, or like `kill`.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 20
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number), errors
    assert "Traceback" not in errors, errors
    wait_for(lambda: not _processes_of_session(process.pid), 20)
    assert not (directory / _INDEX).exists()
    if number != signal.SIGKILL:
        assert hidden(directory) == []
        assert list(temporary.iterdir()) == []
    done = make_release(*given, "--output-dir", directory)
    assert done.status == 0, done.stderr
    assert ("listed" in done.stderr) == moment.startswith("google")
    assert len(listed(directory)) == 9 * 5 + 2
    assert check_release(directory, Progress()).problems == ()
    assert hidden(directory) == []


def _processes_of_session(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(") ")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(stat.parent.name)
    return found


@pytest.mark.parametrize(("step", "times"), [("pack", 1), ("verify_module", 2)])
def test_a_killed_worker_costs_at_most_its_own_artifact(undisturbed, tmp_path, monkeypatch, step, times):
    """The kernel kills processes when memory runs out. The artifact is tried once more, alone, and may fail alone."""
    monkeypatch.setattr("hubexport.system.process_pool._start_worker", _die_at_two)
    monkeypatch.setenv("DEATHS", str(tmp_path / "deaths"))
    monkeypatch.setenv("DIE_IN", f"{step} {times}")
    configs = undisturbed.arguments[3]
    orders = [
        BuildOrder(variant, variant.modules) for variant in (load_variant(name, configs) for name in ("one", "two"))
    ]
    options = ReleaseOptions("synthetic:1", checks=CHEAP[1:])
    first, second = release_modules.release_modules(orders, options, tmp_path / "dist", jobs=2)
    assert (tmp_path / "deaths").read_text() == "x" * times
    assert first.result == "made"
    if times == 1:
        assert second.result == "made"
    else:
        assert isinstance(second.result, ReleaseError)
        assert "its process was killed" in second.result.why
    assert _TWO in (tmp_path / "dist/index.json").read_text() or times == 2
    assert check_release(tmp_path / "dist", Progress()).problems == ()
    _assert_completed(undisturbed, tmp_path / "dist")


def _die_at_two() -> None:
    """Starts a worker that is killed in a step of `two`, once or several times, while other workers run."""
    step, times = os.environ["DIE_IN"].split()
    deaths = Path(os.environ["DEATHS"])
    original = getattr(make_artifact, step)

    def deadly(path, *arguments, **options):
        so_far = deaths.read_text() if deaths.exists() else ""
        if "two/" in str(path) and len(so_far) < int(times):
            deaths.write_text(f"{so_far}x")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(path, *arguments, **options)

    setattr(make_artifact, step, deadly)


# Damage


@pytest.mark.parametrize(
    "name",
    [f"{_ONE}{end}" for end in (".tar.gz", ".md", ".card.md", ".verify.json", ".provenance.json", ".json")]
    + ["google/google.md", "SHA256SUMS", "sbom"],
)
def test_a_lost_or_truncated_published_file_is_restored(undisturbed, alone, tmp_path, name):
    """With the same bytes. All other files stay."""
    directory = tmp_path / "dist"
    shutil.copytree(undisturbed.first, directory)
    before = contents(directory)
    path = next(directory.glob(f"{name}*.json")) if name == "sbom" else directory / name
    for damage in (Path.unlink, _cut):
        damage(path)
        done = make_release(*alone.arguments, directory)
        assert done.status == 0, done.stderr
        assert contents(directory) == before
        assert hidden(directory) == []


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_a_truncated_bill_of_materials_is_not_listed(undisturbed, tmp_path):
    """It is the first file in its place, and other artifacts share it."""
    directory = tmp_path / "dist"
    assert make_release(
        *undisturbed.arguments, directory, before=functools.partial(die_before, directory, 1, _INDEX)
    ).status
    _cut(next(directory.glob("sbom*")))
    _assert_completed(undisturbed, directory)


@pytest.mark.parametrize("damage", ["cut", "empty", "junk", "other", "folder"])
def test_a_damaged_index_stops_the_run_and_stays_as_it_is(undisturbed, tmp_path, damage):
    """Nobody knows any more what was published."""
    directory = tmp_path / "dist"
    shutil.copytree(undisturbed.first, directory)
    index = directory / _INDEX
    if damage == "folder":
        index.unlink()
        index.mkdir()
    else:
        whole = index.read_bytes()
        index.write_bytes({"cut": whole[:-100], "empty": b"", "junk": b"\0\xff", "other": b'{"format": 2}'}[damage])
    before = contents(directory)
    _assert_failed_with(make_release(*undisturbed.arguments, directory), f"ERROR cannot read {index}")
    assert contents(directory) == before
    assert hidden(directory) == []


def test_a_lost_index_is_rebuilt_from_the_records(undisturbed, tmp_path):
    """With the same bytes, and without building anything."""
    directory = tmp_path / "dist"
    _assert_completed(undisturbed, directory)
    (directory / _INDEX).unlink()
    done = make_release(*undisturbed.arguments, directory)
    assert "2 listed" in done.stderr
    assert contents(directory) == undisturbed.files


@pytest.mark.parametrize("change", ["checkpoint", "config"])
def test_published_content_is_never_replaced(undisturbed, tmp_path, change):
    """The other artifact is released."""
    directory = tmp_path / "dist"
    shutil.copytree(undisturbed.first, directory)
    before = contents(directory)
    write_config(tmp_path / "configs", "one", "classification/3", num_classes=5 if change == "config" else 7)
    write_config(tmp_path / "configs", "two", "feature_vector/5")
    seed = 2 if change == "checkpoint" else 1
    given = ("--config-dir", tmp_path / "configs", "--checkpoint", f"synthetic:{seed}", *CHEAP)
    done = make_release("--variant", "one,two", *given, "--output-dir", directory)
    _assert_failed_with(done, f"ERROR {_ONE} is already published", "1 FAILED, 1 made")
    after = contents(directory)
    assert before.keys() < after.keys()
    assert all(after[name] == content for name, content in before.items() if name not in _OF_THE_INDEX)
    assert len(listed(directory)) == len(listed(undisturbed.first)) + 5
    # If it is damaged, it is not rebuilt from inputs that would change it.
    (directory / f"{_ONE}.md").unlink()
    before = contents(directory)
    _assert_failed_with(
        make_release("--variant", "one", *given, "--output-dir", directory), f"ERROR {_ONE} is already published"
    )
    assert contents(directory) == before


# Bad checkpoints


@pytest.fixture(scope="module")
def archives(undisturbed, tmp_path_factory) -> tuple[Path, Path]:
    """Two checkpoints that fit `one` and `two`: packed modules of another release."""
    folder = tmp_path_factory.mktemp("archives")
    for seed in ("1", "2"):
        given = ("--config-dir", undisturbed.arguments[3], "--checkpoint", f"synthetic:{seed}", *CHEAP)
        assert make_release("--variant", "one", *given, "--output-dir", folder / seed).status == 0
        shutil.copyfile(folder / seed / f"{_ONE}.tar.gz", folder / f"{seed}.tgz")
    return folder / "1.tgz", folder / "2.tgz"


@pytest.fixture
def from_archives(undisturbed, archives, tmp_path) -> tuple[str | Path, ...]:
    """The arguments of a release of `one` and `two` from archives in a folder."""
    (tmp_path / "archives").mkdir()
    for name in ("one", "two"):
        shutil.copyfile(archives[0], tmp_path / "archives" / f"{name}.tgz")
    arguments = list(undisturbed.arguments)
    arguments[arguments.index("synthetic:1")] = tmp_path / "archives"
    return tuple(arguments)


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_one_bad_checkpoint_stops_no_other_artifact_without_fail_fast(from_archives, archives, tmp_path, order):
    """With --fail-fast, nothing is published, and finished artifacts wait."""
    given = ("--variant", ",".join(order), *from_archives[2:])
    bad = tmp_path / "archives" / "two.tgz"
    _cut(bad)
    fast, going = tmp_path / "fast", tmp_path / "going"
    _assert_failed_with(make_release(*given, fast, "--fail-fast"), "two.tgz", f"{_ONE} was not made")
    assert not (fast / _INDEX).exists()
    for options in ((), ("--keep-going",)):
        _assert_failed_with(make_release(*given, going, *options), "two.tgz")
        assert {_ONE} == {artifact["handle"] for artifact in json.loads((going / _INDEX).read_text())["artifacts"]}
        assert check_release(going, Progress()).problems == ()
    published = contents(going)
    _assert_failed_with(make_release(*given, going, "--fail-fast"), "two.tgz")
    assert contents(going) == published
    shutil.copyfile(archives[0], bad)
    for directory in (fast, going):
        assert make_release(*given, directory).status == 0
        assert len(json.loads((directory / _INDEX).read_text())["artifacts"]) == 2
    assert contents(fast) == contents(going)
    assert check_release(fast, Progress()).problems == ()


def test_an_artifact_finished_before_a_failure_waits_for_the_next_run(undisturbed, tmp_path):
    """It is verified, and only has to be listed."""
    directory = tmp_path / "dist"
    given = (*undisturbed.arguments, directory)
    _assert_failed_with(make_release(*given, "--fail-fast", before=disprove_two), f"{_TWO} failed verification")
    assert not (directory / _INDEX).exists()
    assert (directory / f"{_ONE}.json").exists()
    assert "1 listed, 1 made" in make_release(*given).stderr
    assert contents(directory) == undisturbed.files


@pytest.mark.parametrize("checks", ["structure.digests", "structure.digests,weights"])
@pytest.mark.parametrize(
    "step",
    [
        "release_modules.build_and_pack",
        "build.open_and_restore",
        "build.write_manifest",
        "release_modules.verify_and_describe",
    ],
)
def test_a_checkpoint_that_changes_while_it_is_read_is_noticed(from_archives, archives, tmp_path, step, checks):
    """At any step from the plan to the verification. The next run uses the new content."""
    arguments = (*from_archives[:-2], checks, "--output-dir")
    path = tmp_path / "archives" / "one.tgz"
    done = make_release(*arguments, tmp_path / "dist", before=functools.partial(rewrite_at, step, archives[1], path))
    _assert_failed_with(done, f"ERROR {path} changed while it was read", "1 FAILED, 1 made")
    assert path.read_bytes() == archives[1].read_bytes()
    assert _ONE not in (tmp_path / "dist" / _INDEX).read_text()
    assert check_release(tmp_path / "dist", Progress()).problems == ()
    assert make_release(*arguments, tmp_path / "dist").status == 0
    assert make_release(*arguments, tmp_path / "again").status == 0
    assert contents(tmp_path / "dist") == contents(tmp_path / "again")


# Full disks and missing rights


@contextlib.contextmanager
def _disk(folder: Path, size: str) -> Iterator[Path]:
    """Mounts a file system in memory."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def test_a_small_disk_leaves_nothing_half_published(undisturbed, tmp_path):
    """From a disk with no room at all to the first on which the release fits."""
    failures, completions = 0, _Completions(undisturbed)
    with _disk(tmp_path / "disk", "16k") as disk:
        directory = disk / "dist"
        while (done := make_release(*undisturbed.arguments, directory, before=hide_free_space)).status:
            _assert_failed_with(done, os.strerror(errno.ENOSPC))
            _assert_intact(directory, {})
            failures += 1
            _remount(disk, "size=64m")
            completions.expect(directory)
            shutil.rmtree(directory)
            _remount(disk, f"size={16 + 350 * failures}k")
        assert contents(directory) == undisturbed.files
    assert failures >= 12


def test_a_disk_that_is_full_for_a_moment_leaves_nothing_half_published(undisturbed, tmp_path):
    """While any file is written, in scratch directories too."""
    completions = _Completions(undisturbed)

    def fill(number: int) -> bool:
        with _disk(tmp_path / str(number), "64m") as disk:
            directory, ballast = disk / "dist", disk / "ballast"
            done = make_release(*undisturbed.arguments, directory, before=functools.partial(fill_at, ballast, number))
            if not ballast.exists():
                return False
            ballast.unlink()
            if done.status:
                _assert_failed_with(done, os.strerror(errno.ENOSPC))
            _assert_intact(directory, {})
            assert hidden(directory) == []
            completions.expect(directory)
            return True

    assert _until_undisturbed(fill) > 24
    assert len(completions.seen) > 3


@pytest.mark.parametrize("size", ["4k", "512k", "1600k"])
def test_a_full_folder_for_temporary_files_is_an_error_that_says_so(undisturbed, tmp_path, size):
    """Modules are unpacked there for verification."""
    directory = tmp_path / "dist"
    shutil.copytree(undisturbed.first, directory)
    before = contents(directory)
    with _disk(tmp_path / "tmp", size) as temporary:
        done = make_release(*undisturbed.arguments, directory, before=functools.partial(use_for_temporary, temporary))
        _assert_failed_with(done, os.strerror(errno.ENOSPC), "TMPDIR")
        _assert_intact(directory, before)
        assert _TWO not in (directory / _INDEX).read_text()
        assert list(temporary.iterdir()) == []
        _remount(temporary, "size=64m")
        given = (*undisturbed.arguments, directory)
        assert make_release(*given, before=functools.partial(use_for_temporary, temporary)).status == 0
    assert contents(directory) == undisturbed.files


@pytest.mark.parametrize("how", ["mode", "mount"])
def test_a_folder_that_cannot_be_written_is_an_error_unless_there_is_nothing_to_do(undisturbed, tmp_path, how):
    """The folder stays as it is."""
    with _disk(tmp_path / "disk", "64m") if how == "mount" else contextlib.nullcontext(tmp_path) as disk:
        first, both = disk / "first", disk / "both"
        shutil.copytree(undisturbed.first, first)
        _assert_completed(undisturbed, both)
        before = contents(disk)
        for folder in (first, both, disk):
            _remount(disk, "ro") if how == "mount" else folder.chmod(0o555)
        try:
            why = {"mount": errno.EROFS, "mode": errno.EACCES}[how]
            for directory in (first, disk / "new"):
                done = make_release(*undisturbed.arguments, directory, before=obey_modes)
                _assert_failed_with(done, f"ERROR cannot write the release to {directory}", os.strerror(why))
            done = make_release(*undisturbed.arguments, both, before=obey_modes)
            assert done.status == 0, done.stderr
            assert "2 up to date" in done.stderr
            assert contents(disk) == before
        finally:
            for folder in (disk, first, both):
                _remount(disk, "rw") if how == "mount" else folder.chmod(0o755)
        _assert_completed(undisturbed, first)


# Time


def test_a_clock_that_jumps_changes_no_byte(from_archives, tmp_path):
    """Back and forth by years, so that input files appear to come from the future."""
    assert make_release(*from_archives, tmp_path / "calm").status == 0
    for path in (*(tmp_path / "archives").iterdir(), *Path(from_archives[3]).iterdir()):
        os.utime(path, (4e9, 4e9))
    done = make_release(*from_archives, tmp_path / "jumping", before=jump)
    assert done.status == 0, done.stderr
    assert contents(tmp_path / "jumping") == contents(tmp_path / "calm")
    assert check_release(tmp_path / "jumping", Progress()).problems == ()
    for path in (tmp_path / "jumping").rglob("*"):
        os.utime(path, (4e9, 4e9))
    done = make_release(*from_archives, tmp_path / "jumping", before=jump)
    assert "2 up to date" in done.stderr


# Simultaneous runs


def test_a_second_run_stops_while_another_is_running(undisturbed, tmp_path):
    """It changes nothing. Afterwards, everything is up to date."""
    directory, here, go = (tmp_path / name for name in ("dist", "here", "go"))
    given = (*undisturbed.arguments, directory)
    at_work = Release(*given, before=functools.partial(wait_at, "verify_and_describe", here, go))
    wait_for(here.exists)
    _assert_failed_with(make_release(*given), f"ERROR another release is running in {directory}")
    assert contents(directory) == {}
    go.touch()
    assert at_work.wait().status == 0
    assert contents(directory) == undisturbed.files
    assert "2 up to date" in make_release(*given).stderr
    assert hidden(directory) == []


def test_one_of_many_simultaneous_runs_makes_the_release(undisturbed, tmp_path):
    """Runs with different options never mix: the others stop, or find the release made."""
    directory = tmp_path / "dist"
    for _ in range(2):
        addresses = [f"https://{name}.example.org" for name in "abcd"]
        started = [Release(*undisturbed.arguments, directory, "--url", address) for address in addresses]
        done = [one.wait() for one in started]
        assert min(one.status for one in done) == 0
        for one in done:
            if one.status:
                _assert_failed_with(one, "another release is running in")
        _assert_intact(directory, {})
        artifacts = json.loads((directory / _INDEX).read_text())["artifacts"]
        assert [artifact["handle"] for artifact in artifacts] == [_ONE, _TWO]
        assert len({artifact["inputs"]["url"] for artifact in artifacts}) == 1
        assert hidden(directory) == []
        shutil.rmtree(directory)


def test_an_artifact_replaced_between_plan_and_lock_is_planned_again(undisturbed, tmp_path):
    """Another run may remake an artifact that waits to be listed."""
    directory, here, go = (tmp_path / name for name in ("dist", "here", "go"))
    given = (*undisturbed.arguments, directory)
    killed_before_its_index = functools.partial(die_before, directory, 1, _INDEX)
    assert make_release(*given, before=killed_before_its_index).status == -signal.SIGKILL
    at_work = Release(*given, before=functools.partial(wait_at, "release_lock", here, go))
    wait_for(here.exists)
    otherwise = (*given, "--url", "https://models.example.org")
    assert make_release(*otherwise, before=killed_before_its_index).status == -signal.SIGKILL
    assert b"models.example.org" in (directory / f"{_ONE}.json").read_bytes()
    go.touch()
    assert at_work.wait().status == 0
    assert contents(directory) == undisturbed.files
