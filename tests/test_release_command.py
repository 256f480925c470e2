"""`hubexport release` as users run it: the same bytes for every user, in every place, with any number of processes."""

import hashlib
import io
import json
from pathlib import Path
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.protos import BundleEntryProto
from hubexport.system.digests import file_sha256, tree_files
from tests.archives import member, tgz
from tests.checkpoints import network_values, write_partitioned, write_v2
from tests.command import command, environment, hubexport, hubexport_process
from tests.conftest import SMALL
from tests.servers import answer, running_server

_ARGUMENTS = (
    *("release", "--variant", "small", "--config-dir", "configs", "--checkpoint", "synthetic"),
    *("--checks", "structure.digests,weights"),
)
_ARCHIVES = [f"dist/google/imagenet/small/{module}.tar.gz" for module in ("feature_vector/2", "classification/2")]


@pytest.fixture
def place(config_dir):
    """A folder that contains the folder `configs`."""
    return config_dir.parent


def _digests(folder):
    return {str(path.relative_to(folder)): file_sha256(path) for path in tree_files(folder)}


def test_a_release_from_the_command_line(place):
    """Paths go to stdout and the table of outcomes to stderr. The next run has nothing to do."""
    done = hubexport(*_ARGUMENTS, cwd=place)
    assert (done.returncode, done.stdout.splitlines()) == (0, _ARCHIVES), done.stderr
    assert "WARNING SYNTHETIC weights: small is UNTRAINED" in done.stderr
    assert done.stderr.splitlines()[-1] == "2 made"
    done = hubexport(*_ARGUMENTS, cwd=place)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (0, "", "2 up to date")
    checked = hubexport("check", "dist", cwd=place)
    assert checked.returncode == 0
    assert checked.stdout.startswith("dist: complete and correct: 2 artifacts, 14 files, ")


def test_a_dry_run_shows_what_would_be_made_and_why(place):
    """It writes nothing."""
    done = hubexport(*_ARGUMENTS, "--dry-run", cwd=place)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines() if "small" in line] == [
        ["google/imagenet/small/feature_vector/2", "make", "new"],
        ["google/imagenet/small/classification/2", "make", "new"],
    ]
    assert done.stdout.splitlines()[-1] == "2 make"
    assert not (place / "dist").exists()
    hubexport(*_ARGUMENTS, cwd=place)
    done = hubexport(*_ARGUMENTS, "--checkpoint", "synthetic:1", "--dry-run", "--format", "json", cwd=place)
    assert done.returncode == 1
    assert [(item["action"], item["why"]) for item in json.loads(done.stdout)] == [
        ("refuse", "its content would change because of the checkpoint, and published modules never change")
    ] * 2
    assert "ERROR google/imagenet/small/feature_vector/2 is already published\n" in done.stderr


def test_json_has_the_outcome_of_each_artifact(place):
    """It is all that goes to stdout."""
    done = hubexport(*_ARGUMENTS, "--module", "feature_vector/3", "--format", "json", cwd=place)
    [outcome] = json.loads(done.stdout)
    archive = place / "dist/google/imagenet/small/feature_vector/3.tar.gz"
    assert (outcome["handle"], outcome["result"]) == ("google/imagenet/small/feature_vector/3", "made")
    assert outcome["archive"]["sha256"] == file_sha256(archive)
    assert set(outcome["seconds"]) == {"build", "pack", "verify", "describe"}


def test_check_reports_a_damaged_release(place):
    """One line per problem on stdout, or JSON, and exit status 1."""
    hubexport(*_ARGUMENTS, cwd=place)
    (place / _ARCHIVES[0]).write_bytes(b"damaged")
    done = hubexport("check", "dist", cwd=place)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("google/imagenet/small/feature_vector/2.tar.gz: ")
    assert re.match("dist: [1-9] problems?: 2 artifacts, ", done.stdout.splitlines()[-1])
    report = json.loads(hubexport("check", "dist", "--format", "json", cwd=place).stdout)
    assert report["problems"][0]["path"] == "google/imagenet/small/feature_vector/2.tar.gz"


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        pytest.param(["--url", "models.example"], 2, "ERROR --url models.example: not a valid address", id="address"),
        pytest.param(["--checks", "weigths"], 2, "ERROR --checks weigths: no such check", id="check"),
        pytest.param(["--beam-option", "x=1"], 2, "ERROR --beam-option x=1 needs --runner", id="option of Beam"),
        pytest.param(["--module", "feature_vektor"], 2, "ERROR unknown module 'feature_vektor'", id="module"),
        pytest.param(["--variant", "nowhere*"], 1, "ERROR no variant", id="variant"),
        pytest.param(
            ["--keep-going", "--fail-fast"],
            2,
            "ERROR hubexport release: --fail-fast and --keep-going exclude",
            id="both",
        ),
    ],
)
def test_mistakes_are_reported(place, arguments, status, error):
    """Before any work begins."""
    done = hubexport(*_ARGUMENTS, *arguments, cwd=place)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(error), done.stderr
    assert not (place / "dist").exists()


def test_source_date_epoch_must_be_a_time(place):
    """As reproducible-builds.org defines it."""
    done = hubexport(*_ARGUMENTS, cwd=place, env={"SOURCE_DATE_EPOCH": "yesterday"})
    assert done.returncode == 2
    assert "SOURCE_DATE_EPOCH" in done.stderr.splitlines()[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Returns the digests of a release's files."""
    place = tmp_path_factory.mktemp("here")
    _configs(place)
    hubexport(*_ARGUMENTS, cwd=place)
    return _digests(place / "dist")


def _configs(place: Path) -> None:
    (place / "configs").mkdir()
    (place / "configs" / "small.yaml").write_text(SMALL)


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        pytest.param({"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "LANG": "C"}, [], id="time zone and locale"),
        pytest.param({"PYTHONHASHSEED": "1", "PYTHONUTF8": "1"}, ["--jobs", "1"], id="hash seed"),
        pytest.param({"PYTHONHASHSEED": "2", "TF_NUM_INTRAOP_THREADS": "1"}, ["--jobs", "2"], id="processes"),
        pytest.param({}, ["--runner", "beam"], id="Beam"),
    ],
)
@pytest.mark.slow
def test_a_release_has_the_same_bytes_in_any_environment(undisturbed, tmp_path, env, arguments):
    """Every file is the same in another directory, locale and time zone, in more processes, and on Beam."""
    _configs(tmp_path)
    done = hubexport_process(*_ARGUMENTS, *arguments, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert _digests(tmp_path / "dist") == undisturbed


def _as_another_user(*arguments):
    """Returns a command line that runs as a user with another number and umask, in a user namespace."""
    unshare = ["unshare", "--user", "--map-user=1234", "--map-group=1234"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system makes no user namespaces")
    return [*unshare, "sh", "-c", 'test "$(id -u)" = 1234 && umask 077 && exec "$@"', "sh", *arguments]


@pytest.mark.slow
def test_a_release_has_the_same_bytes_for_another_user(undisturbed, tmp_path):
    """Who also has another home."""
    _configs(tmp_path)
    env = environment({"HOME": str(tmp_path), "USER": "other", "HUBEXPORT_CACHE_DIR": str(tmp_path / "cache")})
    done = subprocess.run(
        _as_another_user(*command(*_ARGUMENTS)), cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert _digests(tmp_path / "dist") == undisturbed


@pytest.mark.slow
def test_verification_with_tensorflow_has_the_same_bytes(tmp_path):
    """Measurements are the same in every run. Only dropout's are random, and reports leave them out."""
    reports = []
    for seed in ("1", "2"):
        place = tmp_path / seed
        place.mkdir()
        _configs(place)
        arguments = [*_ARGUMENTS, "--module", "classification/2", "--checks", "numbers.random,behaviour"]
        done = hubexport_process(*arguments, cwd=place, env={"PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr
        reports.append((place / "dist/google/imagenet/small/classification/2.verify.json").read_bytes())
    assert reports[0] == reports[1]
    measured = {check["check"]: check["measured"] for check in json.loads(reports[0])["checks"]}
    assert measured["behaviour.dropout"] is None and measured["behaviour.gradients"] > 0


@pytest.mark.slow
def test_variants_may_share_the_work(place):
    """Two variants in two processes: the table lists all artifacts in the order of the command line."""
    shutil.copy(place / "configs/small.yaml", place / "configs/other.yaml")
    done = hubexport(*_ARGUMENTS, "--variant", "small,other", "--jobs", "2", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == _ARCHIVES + [path.replace("small", "other") for path in _ARCHIVES]
    assert done.stderr.splitlines()[-1] == "4 made"


def test_a_damaged_checkpoint_fails_its_own_variant_only(place):
    """TensorFlow's own reader would abort the process at such a shape. The other variant is made."""
    shutil.copy(place / "configs/small.yaml", place / "configs/other.yaml")
    write_v2(place / "small.ckpt", network_values())
    write_partitioned(
        place / "other.ckpt", {"w": (np.ones([2, 3], np.float32), [2, 1])}, tf.compat.v1.train.SaverDef.V2
    )
    index = place / "other.ckpt.index"
    entries = dict(LeveldbTable(io.BytesIO(index.read_bytes())).entries(1 << 20))
    entry = BundleEntryProto.FromString(entries[b"w"])
    entry.shape.dim[0].size = -2
    index.write_bytes(table_bytes(sorted({**entries, b"w": entry.SerializeToString()}.items())))
    arguments = ("--variant", "small,other", "--checkpoint", "{variant}.ckpt", "--weights", "raw", "--keep-going")
    done = hubexport(*_ARGUMENTS, *arguments, cwd=place)
    assert done.returncode == 1
    assert done.stdout.splitlines() == _ARCHIVES
    assert "ERROR cannot read checkpoint other.ckpt\n  why: other.ckpt.index: it has an impossible shape" in done.stderr


def test_published_archives_are_fetched_once(place):
    """From a mirror, into the cache. Artifacts that are up to date need neither."""
    archive = _archive(place)
    config = (place / "configs/small.yaml").read_text()
    digest = hashlib.sha256(archive).hexdigest()
    (place / "configs/small.yaml").write_text(re.sub("sha256: .*", f"sha256: {digest}", config))
    arguments = [*_ARGUMENTS[:5], "--weights", "raw", "--checks", "weights", "--cache-dir", "cache"]
    with running_server() as server:
        server.acts = [answer(200, archive)]
        done = hubexport(*arguments, "--mirror", server.address, cwd=place, env={"NO_PROXY": "*"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == _ARCHIVES
    done = hubexport(*arguments, "--offline", "--cache-dir", "another", cwd=place)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "2 up to date")
    page = (place / "dist/google/imagenet/small/classification/2.md").read_text()
    assert "small.ckpt" in page and "UNTRAINED" not in page
    done = hubexport(*arguments, "--module", "feature_vector/3", "--offline", "--cache-dir", "another", cwd=place)
    assert done.returncode == 1
    assert "\nERROR small.tgz is not in the cache" in done.stderr and "Traceback" not in done.stderr


def test_without_an_address_users_see_that_they_must_replace_it(place):
    """Programs on pages stay valid, and a warning comes first."""
    done = hubexport(*_ARGUMENTS, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[1].startswith("WARNING without --url, the pages of these artifacts tell users to ")
    for module in ("feature_vector/2", "classification/2"):
        page = (place / f"dist/google/imagenet/small/{module}.md").read_text()
        programs = [program for program in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "https:" in program]
        assert programs
        for program in programs:
            compile(program, module, "exec")
            assert f'"https://YOUR_HUB/google/imagenet/small/{module}"' in program
    done = hubexport(*_ARGUMENTS, "--url", "https://models.example", "--output-dir", "other", cwd=place)
    assert (done.returncode, "--url" in done.stderr) == (0, False)
    assert not [path for path in (place / "other").rglob("*") if path.is_file() and b"YOUR_HUB" in path.read_bytes()]


def test_modules_made_for_the_former_default_address_are_kept(place):
    """They are published, and the address is none of their content. New ones get today's default."""
    arguments = ("--module", "feature_vector/2")
    done = hubexport(*_ARGUMENTS, *arguments, "--url", "https://tfhub.dev", cwd=place)
    assert done.returncode == 0, done.stderr
    kept = {path: digest for path, digest in _digests(place / "dist").items() if path.startswith("google/imagenet/")}
    done = hubexport(*_ARGUMENTS, "--dry-run", cwd=place)
    assert [line.strip().split(maxsplit=2)[1:] for line in done.stdout.splitlines() if "small" in line] == [
        ["keep", "published before --url changed"],
        ["make", "new"],
    ]
    done = hubexport(*_ARGUMENTS, cwd=place)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "1 kept, 1 made"), done.stderr
    assert kept and kept.items() <= _digests(place / "dist").items()
    index = json.loads((place / "dist/index.json").read_text())
    assert [record["inputs"]["url"] for record in index["artifacts"]] == ["https://YOUR_HUB", "https://tfhub.dev"]
    done = hubexport("check", "dist", cwd=place)
    assert (done.returncode, done.stderr.count("unproven")) == (0, 0), done.stdout


def test_an_archive_without_a_digest_needs_a_flag(place):
    """And then a warning says which one was accepted."""
    archive = _archive(place)
    config = (place / "configs/small.yaml").read_text()
    (place / "configs/small.yaml").write_text(re.sub(" *sha256: .*\n", "", config))
    arguments = [*_ARGUMENTS[:5], "--checks", "weights", "--cache-dir", "cache"]
    done = hubexport(*arguments, "--dry-run", cwd=place)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "ERROR the published archive of small is not pinned",
        "  why: the config has no SHA-256 for https://example.invalid/small.tgz, which may serve another file one day",
        "  fix: put its `sha256` under `checkpoint` in the config, or add --accept-unpinned",
    ]
    with running_server() as server:
        server.content = archive
        flags = ("--accept-unpinned", "--mirror", server.address)
        done = hubexport(*arguments, *flags, cwd=place, env={"NO_PROXY": "*"})
    assert (done.returncode, done.stdout.splitlines()) == (0, _ARCHIVES), done.stderr
    assert f"later ones must be the same: SHA-256 {hashlib.sha256(archive).hexdigest()}\n" in done.stderr
    done = hubexport(*arguments, "--accept-unpinned", "--offline", cwd=place)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "2 up to date")


def _archive(folder):
    write_v2(folder / "small.ckpt", network_values(num_classes=7))
    return tgz(*(member(path.name, path.read_bytes()) for path in sorted(folder.glob("small.ckpt.*"))))
