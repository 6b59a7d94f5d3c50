"""Promises of engine.build and engine.sidecar: what is built is what was asked for, and nothing else is ever run.

TensorRT for RTX compiles on the CPU, so these are real builds of the real network.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import onnx
import pytest

from engine import build, sidecar
from engine.errors import EngineError
from engine.flavour import flavour
from engine.model import HALVES, Model, file_sha256
from engine.precision import quantised_inputs
from engine.sidecar import Sidecar, Target

RTX = flavour("tensorrt-rtx")
needs_rtx = pytest.mark.skipif(
    RTX is None, reason="tensorrt-rtx is not installed (its wheels: Linux x86-64 and Windows)"
)
VERSION = RTX.version if RTX else ""
CAPABILITIES = ("8.6", "8.9", "12.0")


def ranges_of(model: Model) -> dict[str, float]:
    return {name: 4.0 for half in HALVES for name in quantised_inputs(onnx.load(model.onnx(half)))}


@pytest.fixture(scope="session")
def ranges_file(full_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranges") / "ranges.json"
    path.write_text(json.dumps(ranges_of(full_model)))
    return path


def run_build(*arguments: object) -> int:
    return build.main([str(a) for a in arguments])


@pytest.fixture(scope="session")
def engine(full_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp16 engine for capability 8.9."""
    out = tmp_path_factory.mktemp("engine")
    target = Target("tensorrt-rtx", VERSION, "8.9", "fp16")
    build.compile_engines(full_model, target, out, None, lambda *_: None)
    return out


@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_builds_for_a_named_gpu(
    full_model: Model, ranges_file: Path, tmp_path: Path, capability: str, precision: str
) -> None:
    """Inputs, outputs and precision are what was asked for; both engines are there, as the sidecar says."""
    asked = ["--runtime", "tensorrt-rtx", "--capability", capability, "--precision", precision]
    assert run_build(*asked, "--model", full_model.directory, "--out", tmp_path, "--ranges", ranges_file) == 0
    target = Target("tensorrt-rtx", VERSION, capability, precision)
    made = sidecar.check(tmp_path, full_model, target)
    spec = full_model.spec
    L, T, S, C, P = len(spec.lags), spec.clip_frames, spec.crop_px, spec.channels, spec.proposals
    assert made.tensors == {
        "2d": {
            "crops": {"mode": "input", "dtype": "uint8", "shape": [-1, 1 + L, S, S]},
            "features": {"mode": "output", "dtype": "float", "shape": [-1, C]},
        },
        "1d": {
            "features": {"mode": "input", "dtype": "float", "shape": [-1, T, C]},
            "valid": {"mode": "input", "dtype": "float", "shape": [-1, T]},
            "proposals": {"mode": "output", "dtype": "float", "shape": [-1, P, 13]},
        },
    }
    for half in HALVES:
        dtypes = set(made.layers[half]) & {"half", "int8"}
        assert dtypes == {"fp32": set(), "fp16": {"half"}, "int8": {"int8"}}[precision]
        assert sidecar.engine_path(tmp_path, half).stat().st_size > 100_000


@pytest.mark.slow
@needs_rtx
def test_another_gpu_means_another_engine(engine: Path, full_model: Model, tmp_path: Path) -> None:
    target = Target("tensorrt-rtx", VERSION, "12.0", "fp16")
    build.compile_engines(full_model, target, tmp_path, None, lambda *_: None)
    assert Sidecar.read(tmp_path).sha256["2d"] != Sidecar.read(engine).sha256["2d"]


@needs_rtx
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("capability", "12.0", "was built for capability 8.9, not 12.0"),
        ("precision", "fp32", "was built for precision fp16, not fp32"),
        ("library", "99.0", "was built for library"),
        ("runtime", "tensorrt", "was built for runtime tensorrt-rtx, not tensorrt"),
    ],
)
def test_a_foreign_engine_is_refused(engine: Path, full_model: Model, field: str, value: str, why: str) -> None:
    target = dataclasses.replace(Target("tensorrt-rtx", VERSION, "8.9", "fp16"), **{field: value})
    with pytest.raises(EngineError, match=why) as refused:
        sidecar.check(engine, full_model, target)
    assert sidecar.command(full_model, target, engine) in str(refused.value)
    assert "\n" not in str(refused.value)


@needs_rtx
def test_an_engine_of_other_weights_is_refused(engine: Path, full_model: Model) -> None:
    other = dataclasses.replace(full_model, sha256="0" * 64)
    with pytest.raises(EngineError, match=r"was built from weights .* not 000000000000; run: mestream build"):
        sidecar.check(engine, other, Target("tensorrt-rtx", VERSION, "8.9", "fp16"))


@needs_rtx
def test_an_engine_of_other_anchors_is_refused(engine: Path, full_model: Model) -> None:
    """`ModelSpec.live` leaves the weights as they are, so their hash can't tell."""
    spec = dataclasses.replace(full_model.spec, stride=full_model.spec.stride * 2)
    other = dataclasses.replace(full_model, spec=spec)
    made = full_model.spec.proposals
    with pytest.raises(EngineError, match=f"makes {made} proposals, not {spec.proposals}; run: mestream build"):
        sidecar.check(engine, other, Target("tensorrt-rtx", VERSION, "8.9", "fp16"))


def spoil_engine(home: Path) -> None:
    path = sidecar.engine_path(home, "2d")
    plan = bytearray(path.read_bytes())
    plan[len(plan) // 2] ^= 1
    path.write_bytes(plan)


def cut_engine(home: Path) -> None:
    path = sidecar.engine_path(home, "1d")
    path.write_bytes(path.read_bytes()[:1000])


@needs_rtx
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_engine, "is corrupt: mesnet_2d.engine"),
        (cut_engine, "is corrupt: mesnet_1d.engine"),
        (lambda home: sidecar.engine_path(home, "1d").unlink(), "lacks mesnet_1d.engine"),
        (lambda home: (home / sidecar.FILE).unlink(), "has no mesnet.engine.json"),
        (lambda home: (home / sidecar.FILE).write_text('{"target": {'), "has a broken mesnet.engine.json"),
        (lambda home: (home / sidecar.FILE).write_text("{}"), "has a broken mesnet.engine.json"),
    ],
)
def test_a_corrupt_engine_is_refused(engine: Path, full_model: Model, tmp_path: Path, spoil, why: str) -> None:
    home = Path(shutil.copytree(engine, tmp_path / "copy"))
    target = Target("tensorrt-rtx", VERSION, "8.9", "fp16")
    sidecar.check(home, full_model, target)
    spoil(home)
    with pytest.raises(EngineError, match=why):
        sidecar.check(home, full_model, target)


@pytest.mark.slow
@needs_rtx
def test_the_cache_builds_once_and_again_when_spoilt(
    full_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = Target("tensorrt-rtx", VERSION, "8.6", "fp16")
    phases: list[str] = []
    home = build.ensure(full_model, target, progress=lambda phase, done, total: phases.append(phase))
    assert home.is_relative_to(tmp_path)
    assert {p.split(":")[0] for p in phases} == {"2d half", "1d half"}
    phases.clear()
    assert build.ensure(full_model, target, progress=lambda phase, done, total: phases.append(phase)) == home
    assert phases == []
    spoil_engine(home)
    build.ensure(full_model, target, progress=lambda phase, done, total: phases.append(phase))
    assert phases
    sidecar.check(home, full_model, target)


@needs_rtx
def test_where_it_cannot_be_built_the_command_is_named(
    full_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = Target("tensorrt-rtx", VERSION, "9.0", "fp16")
    with pytest.raises(EngineError, match=r"run: mestream build --runtime tensorrt-rtx --capability 9.0 .*can't"):
        build.ensure(full_model, target)


@needs_rtx
def test_an_unknown_gpu_is_one_line(full_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--runtime", "tensorrt-rtx", "--capability", "9.0", "--model", full_model.directory, "--out", tmp_path]
    assert run_build(*asked) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert said[-1].endswith("can't compile for capability 9.0; it can for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1")
    assert not (tmp_path / sidecar.FILE).exists()


def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        run_build("--runtime", "onnx", "--precision", "fp7", "--out", tmp_path)
    assert left.value.code == 2


def test_onnx_graphs_carry_hash_and_precision(full_model: Model, ranges_file: Path, tmp_path: Path) -> None:
    for precision in ("fp32", "fp16", "int8"):
        out = tmp_path / precision
        asked = ["--runtime", "onnx", "--precision", precision, "--ranges", ranges_file]
        assert run_build(*asked, "--model", full_model.directory, "--out", out) == 0
        for half in HALVES:
            said = {p.key: p.value for p in onnx.load(out / f"mesnet_{half}.onnx").metadata_props}
            assert said["weights_sha256"] == file_sha256(full_model.weights)
            assert said["precision"] == precision


def test_int8_without_ranges_says_how_to_get_them(
    full_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = ranges_of(full_model)
    del partial["spatial.enter/Conv"]
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps(partial))
    asked = ["--runtime", "onnx", "--precision", "int8", "--model", full_model.directory, "--out", tmp_path]
    assert run_build(*asked, "--ranges", path) == 1
    assert "no INT8 range for spatial.enter/Conv (1 layers lack one); run: mestream calibrate int8" in (
        capsys.readouterr().err
    )
    assert run_build(*asked, "--ranges", tmp_path / "none.json") == 1
    assert "none.json is missing: INT8 needs measured ranges" in capsys.readouterr().err


@pytest.mark.slow
def test_graphs_of_other_anchors_are_exported_anew(tiny_model: Model) -> None:
    spec = dataclasses.replace(tiny_model.spec, stride=tiny_model.spec.stride * 2)
    graphs = build.load_graphs(dataclasses.replace(tiny_model, spec=spec), "fp32")
    dims = graphs["1d"].graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims][1:] == [spec.proposals, 13]


@pytest.mark.slow
def test_stale_graphs_are_exported_anew_from_the_weights(tiny_model: Model, tmp_path: Path) -> None:
    home = Path(shutil.copytree(tiny_model.directory, tmp_path / "model"))
    graph = onnx.load(home / "mesnet_1d.onnx")
    onnx.helper.set_model_props(graph, {"weights_sha256": "of other weights", "precision": "fp32"})
    onnx.save(graph, home / "mesnet_1d.onnx")
    model = dataclasses.replace(tiny_model, directory=home)
    said = {p.key: p.value for p in build.load_graphs(model, "fp32")["1d"].metadata_props}
    assert said["weights_sha256"] == tiny_model.sha256
