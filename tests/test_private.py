"""What shows people can be read by its user alone, under any umask; what was there before is left as it is."""

import os

import pytest

from stream.files.private import make_private_dir, make_private_file, open_private
from stream.protocol.ulid import new_ulid
from stream.sinks.events_file import EventsFile

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


@pytest.fixture(autouse=True)
def _permissive_umask():
    old = os.umask(0)
    yield
    os.umask(old)


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("how", ["wb", "ab", "xb"])
def test_a_new_file_is_private(tmp_path, how):
    with open_private(tmp_path / "events.jsonl", how) as file:
        file.write(b"x")
    make_private_file(tmp_path / "video.mkv")
    assert (mode(tmp_path / "events.jsonl"), mode(tmp_path / "video.mkv")) == (0o600, 0o600)


def test_an_existing_file_keeps_its_mode_and_its_bytes(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a")
    path.chmod(0o640)
    make_private_file(path)
    with open_private(path, "ab") as file:
        file.write(b"b")
    assert (path.read_bytes(), mode(path)) == (b"ab", 0o640)
    with pytest.raises(FileExistsError):
        open_private(path, "xb")


def test_all_new_folders_are_private_and_old_ones_keep_their_mode(tmp_path):
    (tmp_path / "data").mkdir(mode=0o755)
    make_private_dir(tmp_path / "data" / "lab" / "session")
    assert [mode(tmp_path / name) for name in ("data", "data/lab", "data/lab/session")] == [0o755, 0o700, 0o700]
    make_private_dir(tmp_path / "data" / "lab")
    with pytest.raises(FileExistsError):
        make_private_dir(tmp_path / "data" / "lab", exist_ok=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_an_events_file_is_for_its_user_alone(tmp_path):
    """Whatever the umask; a file that somebody made readable stays so."""
    before = os.umask(0)
    try:
        EventsFile(tmp_path / "events.jsonl", new_ulid()).close()
    finally:
        os.umask(before)
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600
