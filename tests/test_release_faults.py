"""What can go wrong while a release is made: what is published stays whole and right, and the next run completes it."""

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
# What a new index replaces; all else that is listed stays as it is.
_OF_THE_INDEX = {_INDEX, "SHA256SUMS"}
_ONE, _TWO = "google/imagenet/one/classification/3", "google/imagenet/two/feature_vector/5"
_ERROR = re.compile(r"^ERROR (.+)\n  why: (.+)\n((?:    - .+\n)*)  fix: (.+)\n", re.MULTILINE)

_Files = dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Undisturbed:
    """Releases that nothing happened to.

    Attributes:
        arguments: of the command that made them; the folder follows.
        first: a folder with `one` alone.
        files: of a release of both.
        seconds: what it takes to make both.
    """

    arguments: tuple[str | Path, ...]
    first: Path
    files: _Files
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> _Undisturbed:
    """What all others are compared with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    given = ("--config_dir", two_variants(folder / "configs"), "--checkpoint", "synthetic:1", *CHEAP)
    arguments = ("--variants", "one", "two", *given, "--output_dir")
    assert make_release("--variants", "one", *given, "--output_dir", folder / "first").status == 0
    started = time.monotonic()
    assert make_release(*arguments, folder / "both").status == 0
    seconds = time.monotonic() - started
    assert set(listed(folder / "both")) > set(listed(folder / "first"))
    return _Undisturbed(arguments, folder / "first", contents(folder / "both"), seconds)


@pytest.fixture(scope="module")
def alone(undisturbed) -> _Undisturbed:
    """The same for `one` alone."""
    arguments = [argument for argument in undisturbed.arguments if argument != "two"]
    files = contents(undisturbed.first)
    return dataclasses.replace(undisturbed, arguments=tuple(arguments), files=files, seconds=undisturbed.seconds / 2)


def _assert_sound(directory: Path, before: _Files) -> None:
    """All that was published stays, and what is published now is whole and right."""
    now = contents(directory)
    kept = before.keys() - _OF_THE_INDEX
    assert {name: now.get(name) for name in kept} == {name: before[name] for name in kept}
    if before or _INDEX in now:
        assert listed(directory)
        assert check_release(directory, Progress()).problems == ()


def _assert_old_or_new(undisturbed: _Undisturbed, directory: Path, before: _Files) -> None:
    """And nothing in between."""
    _assert_sound(directory, before)
    assert contents(directory).get(_INDEX) in (before.get(_INDEX), undisturbed.files[_INDEX])


def _assert_completed(undisturbed: _Undisturbed, directory: Path) -> None:
    done = make_release(*undisturbed.arguments, directory)
    assert done.status == 0, done.stderr
    assert contents(directory) == undisturbed.files


def _assert_told(done: Done, *words: str) -> None:
    """The command failed with errors of three lines, and no other words than those of its table."""
    assert done.status == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("ERROR ") == len(_ERROR.findall(done.stderr)) > 0, done.stderr
    for word in words:
        assert word in done.stderr


class _Completions:
    """Lets the next run complete a release, unless one in the same state has been completed."""

    def __init__(self, undisturbed: _Undisturbed) -> None:
        self._undisturbed = undisturbed
        self.seen: set[frozenset[tuple[str, str]]] = set()

    def expect(self, directory: Path) -> None:
        """Compares what comes out with the release that nothing happened to."""
        state = frozenset(contents(directory).items())
        if state not in self.seen:
            self.seen.add(state)
            _assert_completed(self._undisturbed, directory)


def _until_undisturbed(disturb: Callable[[int], bool]) -> int:
    """Disturbs runs at their first step, their second and so on, and returns how many steps there are."""
    number = 1
    with ThreadPoolExecutor(2) as pool:
        while all(pool.map(disturb, (number, number + 1))):
            number += 2
    return number


# Killed


def test_a_release_killed_at_any_moment_is_taken_up_by_the_next(undisturbed, alone, tmp_path):
    """At 50 moments; of one artifact, of two, and of one beside another that is published already."""
    chances = random.Random(6)
    # What is made, what is there before, and how long it takes.
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
def test_a_release_killed_between_any_two_steps_is_taken_up_by_the_next(undisturbed, alone, tmp_path, published):
    """Before each call of the system that changes what is in the release's folder."""
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

    # The files of each artifact, the index and what goes with it, folders, scratch and lock.
    assert _until_undisturbed(kill) > 12
    # From the first file of an artifact to the index.
    assert len(completions.seen) > 8


def test_a_killed_run_leaves_no_word_about_what_another_may_replace(undisturbed, tmp_path):
    """SHA256SUMS comes before the index; the artifact that only it names is made otherwise by the next run."""
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
    """It leaves neither a process nor, if it can, anything half done; the next run makes what this one did not."""
    configs, temporary = tmp_path / "configs", tmp_path / "tmp"
    temporary.mkdir()
    for name in ("one", "two", "three"):
        write_config(configs, name, "classification/3", "classification/5", "feature_vector/5")
    given = ("--variants", "one", "two", "three", "--config_dir", configs, "--checkpoint", "synthetic:1", *CHEAP)
    directory = tmp_path / "dist"
    process = subprocess.Popen(
        command("release", *given, "--jobs", "2", "--output_dir", directory),
        env=environment({"TMPDIR": str(temporary)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: list(directory.glob(moment)) or process.poll() is not None)
    # What Ctrl-C does, or `kill`.
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
    done = make_release(*given, "--output_dir", directory)
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
def test_a_worker_that_is_killed_costs_at_most_what_it_was_at(undisturbed, tmp_path, monkeypatch, step, times):
    """As the kernel does when memory runs out: tried again alone, it succeeds, or is the only one that fails."""
    monkeypatch.setattr("hubexport.system.process_pool._start_worker", _die_at_two)
    monkeypatch.setenv("DEATHS", str(tmp_path / "deaths"))
    monkeypatch.setenv("DIE_IN", f"{step} {times}")
    configs = undisturbed.arguments[4]
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
    """Starts a worker that is killed in a step of `two`, once or several times, when other workers are at work."""
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


# Damaged


@pytest.mark.parametrize(
    "name",
    [f"{_ONE}{end}" for end in (".tar.gz", ".md", ".card.md", ".verify.json", ".provenance.json", ".json")]
    + ["google/google.md", "SHA256SUMS", "sbom"],
)
def test_a_published_file_that_is_lost_or_cut_comes_back(undisturbed, alone, tmp_path, name):
    """With the same bytes, and all others stay."""
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


def test_a_sbom_that_a_crash_cut_is_not_listed(undisturbed, tmp_path):
    """It comes to its place first of all, and other artifacts share it."""
    directory = tmp_path / "dist"
    assert make_release(
        *undisturbed.arguments, directory, before=functools.partial(die_before, directory, 1, _INDEX)
    ).status
    _cut(next(directory.glob("sbom*")))
    _assert_completed(undisturbed, directory)


@pytest.mark.parametrize("damage", ["cut", "empty", "junk", "other", "folder"])
def test_a_damaged_index_stops_the_run_and_is_left_alone(undisturbed, tmp_path, damage):
    """Nobody knows any more what was promised."""
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
    _assert_told(make_release(*undisturbed.arguments, directory), f"ERROR cannot read {index}")
    assert contents(directory) == before
    assert hidden(directory) == []


def test_a_lost_index_is_made_again_from_the_records(undisturbed, tmp_path):
    """With the same bytes, and nothing is built for it."""
    directory = tmp_path / "dist"
    _assert_completed(undisturbed, directory)
    (directory / _INDEX).unlink()
    done = make_release(*undisturbed.arguments, directory)
    assert "2 listed" in done.stderr
    assert contents(directory) == undisturbed.files


@pytest.mark.parametrize("change", ["checkpoint", "config"])
def test_what_is_published_is_never_replaced_by_other_content(undisturbed, tmp_path, change):
    """Though the rest is released."""
    directory = tmp_path / "dist"
    shutil.copytree(undisturbed.first, directory)
    before = contents(directory)
    write_config(tmp_path / "configs", "one", "classification/3", num_classes=5 if change == "config" else 7)
    write_config(tmp_path / "configs", "two", "feature_vector/5")
    seed = 2 if change == "checkpoint" else 1
    given = ("--config_dir", tmp_path / "configs", "--checkpoint", f"synthetic:{seed}", *CHEAP)
    done = make_release("--variants", "one", "two", *given, "--output_dir", directory)
    _assert_told(done, f"ERROR {_ONE} is already published", "1 FAILED, 1 made")
    after = contents(directory)
    assert before.keys() < after.keys()
    assert all(after[name] == content for name, content in before.items() if name not in _OF_THE_INDEX)
    assert len(listed(directory)) == len(listed(undisturbed.first)) + 5
    # Damaged, it is not made again from what would give other content either.
    (directory / f"{_ONE}.md").unlink()
    before = contents(directory)
    _assert_told(
        make_release("--variants", "one", *given, "--output_dir", directory), f"ERROR {_ONE} is already published"
    )
    assert contents(directory) == before


# Bad checkpoints


@pytest.fixture(scope="module")
def archives(undisturbed, tmp_path_factory) -> tuple[Path, Path]:
    """Two checkpoints that fit `one` and `two`: packed modules of other releases."""
    folder = tmp_path_factory.mktemp("archives")
    for seed in ("1", "2"):
        given = ("--config_dir", undisturbed.arguments[4], "--checkpoint", f"synthetic:{seed}", *CHEAP)
        assert make_release("--variants", "one", *given, "--output_dir", folder / seed).status == 0
        shutil.copyfile(folder / seed / f"{_ONE}.tar.gz", folder / f"{seed}.tgz")
    return folder / "1.tgz", folder / "2.tgz"


@pytest.fixture
def from_archives(undisturbed, archives, tmp_path) -> tuple[str | Path, ...]:
    """The arguments of releases of `one` and `two` from archives in a folder."""
    (tmp_path / "archives").mkdir()
    for name in ("one", "two"):
        shutil.copyfile(archives[0], tmp_path / "archives" / f"{name}.tgz")
    arguments = list(undisturbed.arguments)
    arguments[arguments.index("synthetic:1")] = tmp_path / "archives"
    return tuple(arguments)


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_one_bad_checkpoint_stops_no_other_artifact_unless_that_is_wanted(from_archives, archives, tmp_path, order):
    """With --fail_fast nothing is published, and what is finished waits."""
    given = ("--variants", *order, *from_archives[3:])
    bad = tmp_path / "archives" / "two.tgz"
    _cut(bad)
    fast, going = tmp_path / "fast", tmp_path / "going"
    _assert_told(make_release(*given, fast, "--fail_fast"), "two.tgz", f"{_ONE} was not made")
    assert not (fast / _INDEX).exists()
    for options in ((), ("--keep_going",)):
        _assert_told(make_release(*given, going, *options), "two.tgz")
        assert {_ONE} == {artifact["handle"] for artifact in json.loads((going / _INDEX).read_text())["artifacts"]}
        assert check_release(going, Progress()).problems == ()
    published = contents(going)
    _assert_told(make_release(*given, going, "--fail_fast"), "two.tgz")
    assert contents(going) == published
    shutil.copyfile(archives[0], bad)
    for directory in (fast, going):
        assert make_release(*given, directory).status == 0
        assert len(json.loads((directory / _INDEX).read_text())["artifacts"]) == 2
    assert contents(fast) == contents(going)
    assert check_release(fast, Progress()).problems == ()


def test_what_is_finished_before_a_failure_waits_for_the_next_run(undisturbed, tmp_path):
    """It is proved, and only to be listed."""
    directory = tmp_path / "dist"
    given = (*undisturbed.arguments, directory)
    _assert_told(make_release(*given, "--fail_fast", before=disprove_two), f"{_TWO} failed verification")
    assert not (directory / _INDEX).exists()
    assert (directory / f"{_ONE}.json").exists()
    assert "1 listed, 1 made" in make_release(*given).stderr
    assert contents(directory) == undisturbed.files


@pytest.mark.parametrize("checks", [CHEAP[1:], ("structure.digests", "weights")])
@pytest.mark.parametrize(
    "step",
    [
        "release_modules.build_and_pack",
        "build.read_values",
        "build.write_manifest",
        "release_modules.verify_and_describe",
    ],
)
def test_a_checkpoint_that_changes_while_it_is_read_is_noticed(from_archives, archives, tmp_path, step, checks):
    """At any step from the plan to the proof; the next run takes it as it is then."""
    arguments = (*from_archives[:-2], *checks, "--output_dir")
    path = tmp_path / "archives" / "one.tgz"
    done = make_release(*arguments, tmp_path / "dist", before=functools.partial(rewrite_at, step, archives[1], path))
    _assert_told(done, f"ERROR {path} changed while it was read", "1 FAILED, 1 made")
    assert path.read_bytes() == archives[1].read_bytes()
    assert _ONE not in (tmp_path / "dist" / _INDEX).read_text()
    assert check_release(tmp_path / "dist", Progress()).problems == ()
    assert make_release(*arguments, tmp_path / "dist").status == 0
    assert make_release(*arguments, tmp_path / "again").status == 0
    assert contents(tmp_path / "dist") == contents(tmp_path / "again")


# No room, no rights


@contextlib.contextmanager
def _disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def test_a_disk_that_is_too_small_gets_nothing_half_published(undisturbed, tmp_path):
    """From one with no room for anything up to the first in which the release finds its place."""
    failures, completions = 0, _Completions(undisturbed)
    with _disk(tmp_path / "disk", "16k") as disk:
        directory = disk / "dist"
        while (done := make_release(*undisturbed.arguments, directory)).status:
            _assert_told(done, os.strerror(errno.ENOSPC))
            _assert_sound(directory, {})
            failures += 1
            _remount(disk, "size=64m")
            completions.expect(directory)
            shutil.rmtree(directory)
            _remount(disk, f"size={16 + 350 * failures}k")
        assert contents(directory) == undisturbed.files
    assert failures >= 12


def test_a_disk_that_is_full_for_a_moment_gets_nothing_half_published(undisturbed, tmp_path):
    """While any one of all the files is written, those in scratch directories included."""
    completions = _Completions(undisturbed)

    def fill(number: int) -> bool:
        with _disk(tmp_path / str(number), "64m") as disk:
            directory, ballast = disk / "dist", disk / "ballast"
            done = make_release(*undisturbed.arguments, directory, before=functools.partial(fill_at, ballast, number))
            if not ballast.exists():
                return False
            ballast.unlink()
            if done.status:
                _assert_told(done, os.strerror(errno.ENOSPC))
            _assert_sound(directory, {})
            assert hidden(directory) == []
            completions.expect(directory)
            return True

    assert _until_undisturbed(fill) > 24
    assert len(completions.seen) > 3


@pytest.mark.parametrize("size", ["4k", "512k", "1600k"])
def test_a_full_folder_for_temporary_files_is_an_error_that_says_so(undisturbed, tmp_path, size):
    """Modules are unpacked there to be proved."""
    directory = tmp_path / "dist"
    shutil.copytree(undisturbed.first, directory)
    before = contents(directory)
    with _disk(tmp_path / "tmp", size) as temporary:
        done = make_release(*undisturbed.arguments, directory, before=functools.partial(use_for_temporary, temporary))
        _assert_told(done, os.strerror(errno.ENOSPC), "TMPDIR")
        _assert_sound(directory, before)
        assert _TWO not in (directory / _INDEX).read_text()
        assert list(temporary.iterdir()) == []
        _remount(temporary, "size=64m")
        given = (*undisturbed.arguments, directory)
        assert make_release(*given, before=functools.partial(use_for_temporary, temporary)).status == 0
    assert contents(directory) == undisturbed.files


@pytest.mark.parametrize("how", ["mode", "mount"])
def test_a_folder_that_cannot_be_written_is_an_error_unless_there_is_nothing_to_do(undisturbed, tmp_path, how):
    """It stays as it is."""
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
                _assert_told(done, f"ERROR cannot write the release to {directory}", os.strerror(why))
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
    """Back and forth, by years; and what is read is said to be written in the future."""
    assert make_release(*from_archives, tmp_path / "calm").status == 0
    for path in (*(tmp_path / "archives").iterdir(), *Path(from_archives[4]).iterdir()):
        os.utime(path, (4e9, 4e9))
    done = make_release(*from_archives, tmp_path / "jumping", before=jump)
    assert done.status == 0, done.stderr
    assert contents(tmp_path / "jumping") == contents(tmp_path / "calm")
    assert check_release(tmp_path / "jumping", Progress()).problems == ()
    for path in (tmp_path / "jumping").rglob("*"):
        os.utime(path, (4e9, 4e9))
    done = make_release(*from_archives, tmp_path / "jumping", before=jump)
    assert "2 up to date" in done.stderr


# At one time


def test_a_second_run_ends_at_once_while_another_is_at_work(undisturbed, tmp_path):
    """It changes nothing; afterwards it finds all made."""
    directory, here, go = (tmp_path / name for name in ("dist", "here", "go"))
    given = (*undisturbed.arguments, directory)
    at_work = Release(*given, before=functools.partial(wait_at, "verify_and_describe", here, go))
    wait_for(here.exists)
    _assert_told(make_release(*given), f"ERROR another release is running in {directory}")
    assert contents(directory) == {}
    go.touch()
    assert at_work.wait().status == 0
    assert contents(directory) == undisturbed.files
    assert "2 up to date" in make_release(*given).stderr
    assert hidden(directory) == []


def test_of_many_runs_at_one_time_one_makes_the_release(undisturbed, tmp_path):
    """Whoever comes first: the others, which would make it otherwise, give up, or find it made; nothing is mixed."""
    directory = tmp_path / "dist"
    for _ in range(2):
        addresses = [f"https://{name}.example.org" for name in "abcd"]
        started = [Release(*undisturbed.arguments, directory, "--url", address) for address in addresses]
        done = [one.wait() for one in started]
        assert min(one.status for one in done) == 0
        for one in done:
            if one.status:
                _assert_told(one, "another release is running in")
        _assert_sound(directory, {})
        artifacts = json.loads((directory / _INDEX).read_text())["artifacts"]
        assert [artifact["handle"] for artifact in artifacts] == [_ONE, _TWO]
        assert len({artifact["inputs"]["url"] for artifact in artifacts}) == 1
        assert hidden(directory) == []
        shutil.rmtree(directory)


def test_what_another_run_replaces_between_plan_and_lock_is_not_listed_as_it_was(undisturbed, tmp_path):
    """What waits to be listed may be made anew by whoever is first."""
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
