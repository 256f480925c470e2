"""The pipelines that users copy, the commands in docs/release.md and docs/scale.md, and publish.sh."""

import hashlib
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from hubexport.checkpoints.download_cache import Downloads, archive_path
from hubexport.cli.main import _parse
from hubexport.config_files import list_variants
from hubexport.errors import UsageError
from tests.data import REPOSITORY

_FOLDER = REPOSITORY / "scripts" / "release"
_GITHUB = yaml.safe_load((_FOLDER / "github-actions.yml").read_text())
_GITLAB = yaml.safe_load((_FOLDER / "gitlab-ci.yml").read_text())
# In YAML 1.1, the key `on` is a boolean.
_ON = True
_GITLAB_JOBS = ("plan", "release", "publish")
_PUBLISH = _FOLDER / "publish.sh"
# Words for the shell, and not for the program.
_END = re.compile(r"\s(?:&&|\|\||[|;>])\s.*")

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


def _steps(job):
    return _GITHUB["jobs"][job]["steps"]


def _scripts():
    """Yields each script of the pipelines, with its name."""
    for job in _GITHUB["jobs"]:
        yield from ((f"github-{job}", step["run"]) for step in _steps(job) if "run" in step)
    for job in _GITLAB_JOBS:
        yield from ((f"gitlab-{job}", line) for line in _GITLAB[job]["script"])


def _commands():
    """Yields all command lines of hubexport in pipelines and documents."""
    for name, script in _scripts():
        yield from ((name, line) for line in script.splitlines() if line.startswith("hubexport "))
    for document in ("release.md", "scale.md"):
        text = (REPOSITORY / "docs" / document).read_text(encoding="utf-8")
        blocks = "".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        joined = blocks.replace("\\\n", " ")
        yield from ((document, line) for line in re.findall(r"^(?:\$ )?(hubexport .*)", joined, re.MULTILINE))


def _parsed(line):
    return _parse(shlex.split(_END.sub("", line)))


def test_hubexport_accepts_every_command():
    """In both pipelines, and in both documents."""
    commands = list(_commands())
    for _, line in commands:
        _parsed(line)
    found = [name for name, _ in commands]
    assert found.count("github-release") == found.count("gitlab-release") == 3
    assert found.count("github-plan") == found.count("gitlab-plan") == 1
    assert found.count("release.md") >= 5
    assert found.count("scale.md") >= 1


def test_an_invalid_command_would_be_found():
    """Because the parser is strict."""
    with pytest.raises(UsageError, match="no flag --everything"):
        _parsed("hubexport release --everything | cat")


@pytest.mark.parametrize("pipeline", ["github", "gitlab"])
def test_a_pipeline_plans_releases_and_checks_one_folder(pipeline):
    """A plan for proposed changes; a fetch, a release and its check for accepted ones."""
    lines = [line for name, line in _commands() if name.startswith(pipeline)]
    plan, fetch, release, check = map(_parsed, lines)
    assert plan.dry_run
    assert not release.dry_run
    assert fetch.variant == ["all"]
    assert (release.jobs, release.offline) == (2, True), "what was not fetched shall not be looked for elsewhere"
    assert plan.output_dir == release.output_dir == check.directory == "dist"
    assert plan.url == release.url == "$RELEASE_URL"
    assert plan.config_dir == fetch.config_dir == release.config_dir == "configs"


def test_both_pipelines_run_the_same_commands():
    """They do so in the same order."""
    github, gitlab = ([line for name, line in _commands() if name.startswith(host)] for host in ("github", "gitlab"))
    assert github == gitlab


def test_a_workflow_has_no_more_rights_than_it_needs():
    """Only a job that installs nothing sees the one secret."""
    assert _GITHUB["permissions"] == {"contents": "read"}
    assert set(_GITHUB[_ON]) == {"pull_request", "push", "workflow_dispatch"}
    for job, content in _GITHUB["jobs"].items():
        assert content["timeout-minutes"] <= 180
        assert ("secrets." in str(content)) == ("environment" in content) == (job == "publish")
        assert ("pip install" in str(content)) == (job != "publish")
        checkouts = [step for step in content["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert [step["with"] for step in checkouts] == [{"persist-credentials": False}]
        uses = [step["uses"] for step in content["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w/-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", action) for action in uses), uses
    for job in _GITLAB_JOBS:
        assert ("SSH_KEY" in str(_GITLAB[job])) == ("environment" in _GITLAB[job]) == (job == "publish")
        assert "timeout" in _GITLAB[job]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-\w+", _GITLAB["default"]["image"])


def test_two_releases_never_run_at_once():
    """None is cancelled, either."""
    concurrency = _GITHUB["concurrency"]
    assert concurrency["group"].startswith("release-${{ github.event_name == 'pull_request' && github.ref || 'main' }}")
    assert concurrency["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    assert {job: _GITLAB[job].get("resource_group") for job in _GITLAB_JOBS} == {
        "plan": None,
        "release": "release",
        "publish": "release",
    }
    assert [job for job in _GITLAB_JOBS if _GITLAB[job].get("interruptible")] == ["plan"]


def test_pipelines_cache_the_folder_of_checkpoints(monkeypatch):
    """Where hubexport keeps them, and the release so far."""
    caches = [step["with"] for step in _steps("release") if step.get("uses", "").startswith("actions/cache/")]
    assert [cache["path"] for cache in caches] == ["${{ env.HUBEXPORT_CACHE_DIR }}"] * 2 + ["dist"] * 2
    assert "hashFiles('configs/**'" in caches[0]["key"]
    assert caches[1]["key"] == "${{ steps.checkpoints.outputs.cache-primary-key }}"
    assert caches[3]["key"] == "${{ steps.dist.outputs.cache-primary-key }}"
    assert _GITHUB["env"]["HUBEXPORT_CACHE_DIR"] == "${{ github.workspace }}/.cache/hubexport"
    checkpoints, dist = _GITLAB["release"]["cache"]
    assert dist["paths"] == ["dist"]
    [cached] = checkpoints["paths"]
    assert _GITLAB["variables"]["HUBEXPORT_CACHE_DIR"] == f"$CI_PROJECT_DIR/{cached}"
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", f"/project/{cached}")
    assert archive_path(list_variants()[0].checkpoint, Downloads()).is_relative_to(f"/project/{cached}")


def test_the_files_for_pipelines_exist():
    """publish.sh, which is executable, and hubexport's pinned requirements."""
    for pipeline in (_steps("publish"), _GITLAB["publish"]):
        assert f'scripts/release/{_PUBLISH.name} dist "$RELEASE_TARGET"' in str(pipeline)
    assert _PUBLISH.stat().st_mode & 0o111
    assert "--constraint constraints/python3.11.txt" in str(_steps("release"))
    assert (REPOSITORY / "constraints" / "python3.11.txt").is_file()


def _release(folder, **files):
    """Writes files that look like a release to publish.sh."""
    for name, content in files.items():
        path = folder / "google" / f"{name}.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    _list(folder)
    return folder


def _list(folder):
    paths = sorted(path for path in folder.rglob("*.tar.gz"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in paths]
    (folder / "SHA256SUMS").write_text("".join(sums))
    (folder / "index.json").write_text(f"lists {len(paths)}")


def _content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["folder", pytest.param("rsync", marks=needs_rsync)])
def publish(request, tmp_path):
    """Returns a function that publishes a release to the folder `served`, directly or as to another host."""
    (tmp_path / "served").mkdir()
    # rsync calls this instead of ssh; it ignores the host.
    (tmp_path / "shell").write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    (tmp_path / "shell").chmod(0o755)
    target = f"{'host:' if request.param == 'rsync' else ''}{tmp_path}/served"

    def publish(release):
        return subprocess.run(
            [_PUBLISH, release, target],
            env={"PATH": "/usr/bin:/bin", "RSYNC_RSH": str(tmp_path / "shell")},
            capture_output=True,
            text=True,
            check=False,
        )

    return publish


def test_a_release_is_copied_and_a_larger_one_after_it(publish, tmp_path):
    """Earlier and other files stay, no temporary ones remain, and a second copy changes nothing."""
    dist, served = tmp_path / "dist", tmp_path / "served"
    (served / "others.txt").write_text("not of the release")
    assert publish(_release(dist, a="1", b="2")).returncode == 0
    assert publish(_release(dist, c="3")).returncode == 0
    done = publish(dist)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert _content(served) == {**_content(dist), "others.txt": b"not of the release"}


def test_the_index_comes_last_and_the_sums_before_it(publish, tmp_path):
    """As their times of change show."""
    names = {f"{letter}{number}": str(number) for number in range(20) for letter in "az"}
    assert publish(_release(tmp_path / "dist", **names)).returncode == 0
    served = tmp_path / "served"
    came = {path.name: path.stat().st_ctime_ns for path in served.rglob("*") if path.is_file()}
    index, sums = came.pop("index.json"), came.pop("SHA256SUMS")
    assert len(came) == 40
    assert max(came.values()) <= sums <= index


@pytest.mark.parametrize("change", ["changes", "loses"])
def test_published_files_neither_change_nor_disappear(publish, tmp_path, change):
    """If they would, nothing is copied."""
    dist, served = tmp_path / "dist", tmp_path / "served"
    publish(_release(dist, a="1", b="2"))
    before = _content(served)
    if change == "loses":
        (dist / "google" / "b.tar.gz").unlink()
    done = publish(_release(dist, c="3", **({"b": "other"} if change == "changes" else {})))
    assert done.returncode == 1
    assert "published files would change or disappear: google/b.tar.gz" in done.stderr
    assert _content(served) == before


def test_a_damaged_release_is_not_published(publish, tmp_path):
    """Nor is a folder without a release."""
    dist = _release(tmp_path / "dist", a="1")
    (dist / "google" / "a.tar.gz").write_text("2")
    done = publish(dist)
    assert done.returncode == 1
    assert f"ERROR {dist} is damaged" in done.stderr
    (dist / "index.json").unlink()
    done = publish(dist)
    assert (done.returncode, done.stderr.count("\n")) == (1, 3)
    assert not _content(tmp_path / "served")


def test_an_interrupted_copy_is_completed(publish, tmp_path):
    """It left a damaged file, listed or not, perhaps with the right time and size."""
    dist, served = _release(tmp_path / "dist", a="1", b="2"), tmp_path / "served"
    (served / "google").mkdir()
    shutil.copy2(dist / "google" / "a.tar.gz", served / "google" / "a.tar.gz")
    with (served / "google" / "a.tar.gz").open("r+") as file:
        file.write("x")
    shutil.copystat(dist / "google" / "a.tar.gz", served / "google" / "a.tar.gz")
    assert publish(dist).returncode == 0
    (served / "google" / "b.tar.gz").write_text("")
    assert publish(dist).returncode == 0
    assert _content(served) == _content(dist)


@needs_rsync
def test_an_unreachable_target_is_not_taken_for_an_empty_one(tmp_path):
    """Even if it can be reached again a moment later."""
    (tmp_path / "served").mkdir()
    (tmp_path / "shell").write_text(f'#!/bin/sh\nmkdir {tmp_path}/tried && exit 255\nshift\nexec sh -c "$*"\n')
    (tmp_path / "shell").chmod(0o755)
    done = subprocess.run(
        [_PUBLISH, _release(tmp_path / "dist", a="1"), f"host:{tmp_path}/served"],
        env={"PATH": "/usr/bin:/bin", "RSYNC_RSH": str(tmp_path / "shell")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode > 0
    assert (tmp_path / "tried").is_dir()
    assert not _content(tmp_path / "served")
