"""A model directory that is not what it claims: refused in one line that names the file, before anything is scored."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from program import run, said

from engine import build
from engine.errors import EngineError
from engine.model import Model, load_model
from engine.runtimes import select
from engine.spec import LIMITS, MOST, ModelSpec

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
DESCRIPTION = {**asdict(ModelSpec()), "sha256": "ab" * 32}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def copy(full_model: Model, tmp_path: Path) -> Path:
    return Path(shutil.copytree(full_model.directory, tmp_path / "model"))


def flipped(path: Path, count: int) -> None:
    """Flip one bit in each of `count` bytes of the second half of a file, where an ONNX graph keeps its weights."""
    data = np.fromfile(path, np.uint8)
    where = np.random.default_rng(0).choice(np.arange(len(data) // 2, len(data) - 2000), count, replace=False)
    data[where] ^= 1
    data.tofile(path)


def refused(folder: Path, model: Path) -> str:
    """The one line with which the program refuses to watch the demo with this model."""
    done = run(folder, "--demo", "--offline", "--events", "e.jsonl", "--runtime", "onnx", "--model", model)
    assert done.returncode == 1
    (line,) = said(done.stderr)
    assert not (folder / "e.jsonl").exists() or not (folder / "e.jsonl").read_text()
    return line


@pytest.mark.parametrize("half", ["2d", "1d"])
@pytest.mark.parametrize("count", [1, 4000])
def test_a_graph_with_flipped_bytes_is_refused_with_the_command_that_makes_it_anew(tmp_path, copy, half, count):
    """onnxruntime loads such a graph and its metadata are right: only the hash of the file tells."""
    flipped(copy / f"mesnet_{half}.onnx", count)
    line = refused(tmp_path, copy)
    assert f"{copy}/mesnet_{half}.onnx has changed since it was made" in line
    assert f"mestream build --runtime onnx --model {copy} --out {copy}" in line


@pytest.mark.parametrize(
    ("text", "why"), [(None, "has no"), ("{", "has a broken"), ("{}", "says None"), (DEEP, "deep")]
)
def test_a_graph_that_nobody_vouches_for_is_refused(copy, text, why):
    """Without its list of hashes a graph could be anything."""
    hashes = copy / "mesnet.onnx.json"
    hashes.unlink()
    if text is not None:
        hashes.write_text(text)
    with pytest.raises(EngineError, match=why):
        select("onnx", load_model(copy), faces=1)


def test_the_command_that_is_named_makes_the_graph_anew_from_the_weights(copy, moving_crops):
    """It does not take the broken graph for its source, and the outputs are again those of before."""
    crops = np.repeat(moving_crops(2, 128, 0)[:, None], 4, 1)
    before = select("onnx", load_model(copy), faces=1).features(crops)
    flipped(copy / "mesnet_2d.onnx", 4000)
    assert build.main(["--runtime", "onnx", "--model", str(copy), "--out", str(copy)]) == 0
    after = select("onnx", load_model(copy), faces=1).features(crops)
    np.testing.assert_allclose(after, before, atol=1e-5)
    onnx.checker.check_model(onnx.load(copy / "mesnet_2d.onnx"))


def test_weights_that_are_not_what_mesnet_json_says_are_refused(tmp_path, copy):
    """Although the graphs are whole: a false-alarm rate is stated for these weights only."""
    (copy / "mesnet.safetensors").write_bytes(np.random.default_rng(0).bytes(3_000_000))
    line = refused(tmp_path, copy)
    assert f"{copy}/mesnet.safetensors has sha256" in line
    assert "mesnet.json expects" in line


def test_a_model_without_its_weights_still_runs_from_its_graphs(copy):
    """A machine that only spots needs no safetensors file."""
    (copy / "mesnet.safetensors").unlink()
    assert select("onnx", load_model(copy), faces=1).name == "onnx"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"fps": 0}, "fps 0 is not a whole number from 1 to 1000"),
        ({"fps": -30}, "fps -30"),
        ({"fps": 1e9}, "fps 1000000000.0"),
        ({"fps": True}, "fps True"),
        ({"hop_frames": "4"}, "hop_frames '4'"),
        ({"hop_frames": 0}, "hop_frames 0"),
        ({"hop_frames": 65}, "hop_frames 65 is more than the 64 frames of a clip"),
        ({"crop_px": 10**9}, "crop_px 1000000000"),
        ({"lags": []}, "lags"),
        ({"lags": 3}, "lags"),
        ({"anchors": [7] * 65}, "anchors"),
        ({"anchors": [7, None]}, "anchors None"),
        ({"oldest_centre": 64}, "leaves no anchor"),
        ({"name": "../../evil"}, "name"),
        ({"name": ""}, "name"),
        ({"sha256": "zz" * 32}, "sha256"),
        ({"sha256": 5}, "sha256"),
    ],
)
def test_a_description_that_cannot_be_is_one_line(tmp_path, changed, why):
    (tmp_path / "mesnet.json").write_text(json.dumps(DESCRIPTION | changed))
    with pytest.raises(EngineError) as refusal:
        load_model(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path}/mesnet.json is not a model description (")
    assert why in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("described")


def read_or_refused(home: Path) -> ModelSpec | None:
    """The geometry, or None when it was refused in one line that names the file."""
    try:
        return load_model(home).spec
    except EngineError as refusal:
        line = str(refusal)
    assert str(home / "mesnet.json") in line
    assert "\n" not in line
    return None


@given(field=st.sampled_from(sorted(DESCRIPTION)), value=ANY_JSON)
def test_whatever_a_field_says_it_is_a_model_or_one_line(home, field, value):
    """Never a traceback, and never a geometry outside of the limits."""
    (home / "mesnet.json").write_text(json.dumps(DESCRIPTION | {field: value}))
    spec = read_or_refused(home)
    if spec is not None:
        for name, (low, high) in LIMITS.items():
            numbers = getattr(spec, name)
            assert all(low <= n <= high for n in (numbers if isinstance(numbers, tuple) else (numbers,)))
        assert spec.proposals > 0


@given(text=st.text() | ANY_JSON.map(json.dumps) | st.binary())
def test_whatever_mesnet_json_holds_it_is_one_line(home, text):
    (home / "mesnet.json").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    assert read_or_refused(home) is None


@given(st.data())
def test_every_geometry_within_the_limits_is_written_and_read_back(home, data):
    numbers: dict[str, Any] = {name: data.draw(st.integers(*LIMITS[name])) for name in LIMITS}
    for name in ("lags", "anchors"):
        numbers[name] = tuple(data.draw(st.lists(st.integers(*LIMITS[name]), min_size=1, max_size=MOST)))
    numbers["hop_frames"] = min(numbers["hop_frames"], numbers["clip_frames"])
    numbers["oldest_centre"] = min(numbers["oldest_centre"], numbers["clip_frames"] - numbers["stride"])
    assume(numbers["oldest_centre"] >= 0)
    (home / "mesnet.json").write_text(json.dumps(DESCRIPTION | numbers))
    assert load_model(home).spec == ModelSpec(**numbers)


@pytest.mark.parametrize(
    ("given_as", "why"), [("deep", "nested too deeply"), ("large", "larger than 1 MiB"), ("/dev/zero", "regular")]
)
@pytest.mark.parametrize("option", ["--calibration", "--config"])
def test_a_file_without_end_or_bottom_is_one_line(tmp_path, option, given_as, why):
    """Settings and calibrations are small; a device, a huge file or a deep one neither hangs nor fills the memory."""
    path = Path(given_as) if given_as.startswith("/") else tmp_path / given_as
    if given_as == "deep":
        path.write_text(f"a = {DEEP}" if option == "--config" else DEEP)
    elif given_as == "large":
        path.write_bytes(b"# " * 1_000_000)
    done = run(tmp_path, "--demo", "--port", 0, option, path)
    assert done.returncode == 2, done.stderr
    (line,) = said(done.stderr)
    assert f"{option} {path}: " in line
    assert why in line or (option == "--config" and "is not TOML" in line)
