"""`mestream build`: turns weights into ONNX graphs, and these into a compiled engine with a sidecar that describes it.

`tensorrt` and `tensorrt-rtx` share one code path. TensorRT for RTX compiles ahead of time for a named GPU capability,
even on a machine without a GPU. TensorRT builds on the GPU of this machine and for it.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import sidecar
from engine.errors import EngineError
from engine.extras import pip_install, require
from engine.flavour import Flavour, flavour, gpu_capability
from engine.model import DEFAULT_DIRECTORY, GRAPH_HASHES, HALVES, Model, load_model, read_graph, save_graph_hashes
from engine.paths import Named, clash, model_files
from engine.sidecar import PRECISIONS, Sidecar, Target

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_FACES = 512
"""The most faces that one pass of an engine takes. `engine.runtimes.torch_cuda` splits larger batches into such parts.
"""
RUNTIMES = ("tensorrt", "tensorrt-rtx", "onnx")
Progress = Callable[[str, int, int], None]
"""Called with the name of a phase, its completed steps and its total steps. The call may come from any thread."""


def load_graphs(
    model: Model, precision: str, ranges: Mapping[str, float | None] | None = None
) -> "dict[str, ModelProto]":
    """The ONNX graphs of both halves in `precision`. They are exported again when the model's own graphs are missing,
    have changed since the export, or belong to other weights."""
    from engine.precision import convert
    from engine.ranges import load_ranges

    graphs = {half: _marked_graph(model, half) for half in HALVES}
    if stale := [half for half, graph in graphs.items() if graph is None]:
        graphs |= _exported(model, stale)
    if precision == "int8" and ranges is None:
        ranges = load_ranges(model.directory / "mesnet_int8.json", model.sha256)
    return {half: convert(graph, precision, ranges) for half, graph in graphs.items() if graph is not None}


def _marked_graph(model: Model, half: str) -> "ModelProto | None":
    import onnx

    try:
        graph = onnx.load_model_from_string(read_graph(model.onnx(half)))
    except Exception:  # missing, changed or not ONNX (protobuf has its own errors): export again from the weights
        return None
    metadata = {p.key: p.value for p in graph.metadata_props}
    if (metadata.get("weights_sha256"), metadata.get("precision")) != (model.sha256, "fp32"):
        return None
    anchors_fit = half == "2d" or graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value == model.spec.proposals
    return graph if anchors_fit else None


def _exported(model: Model, halves: list[str]) -> "dict[str, ModelProto]":
    try:
        import onnx

        from engine.export import export, load_network
    except ImportError:
        raise EngineError(
            f"no ONNX graph in {model.directory} fits the weights; exporting needs torch; run: {pip_install('train')}"
        ) from None
    with tempfile.TemporaryDirectory() as scratch:
        paths = export(load_network(model), Path(scratch), model.sha256, halves)
        return {half: onnx.load(path) for half, path in paths.items()}


def compile_engines(
    model: Model, target: Target, out: Path, ranges: Mapping[str, float | None] | None, progress: Progress
) -> Sidecar:
    """Compiles both halves for `target` into `out`. The sidecar is written last, so an interrupted build never looks
    complete.

    Raises EngineError when TensorRT is missing or refuses.
    """
    found = flavour(target.runtime)
    if found is None:
        raise EngineError(f"{target.runtime} is not installed; run: {pip_install(target.runtime)}")
    if target.runtime == "tensorrt" and (here := gpu_capability()) != target.capability:
        here = here or "none"
        raise EngineError(
            f"tensorrt builds for the GPU at hand ({here}), not for {target.capability}; use tensorrt-rtx"
        )
    graphs = load_graphs(model, target.precision, ranges)
    out.mkdir(parents=True, exist_ok=True)
    (out / sidecar.FILE).unlink(missing_ok=True)
    tensors, layers, hashes = {}, {}, {}
    for half in HALVES:
        name = f"{half} half"
        plan, tensors[half], layers[half] = _compile(
            found, graphs[half], model, target, lambda *a, n=name: progress(f"{n}: {a[0]}", *a[1:])
        )
        hashes[half] = hashlib.sha256(plan).hexdigest()
        part = sidecar.engine_path(out, half).with_suffix(".part")
        part.write_bytes(plan)
        os.replace(part, sidecar.engine_path(out, half))
    made = Sidecar(target, model.spec.name, model.sha256, MAX_FACES, tensors, layers, hashes)
    made.write(out)
    return made


def _compile(
    found: Flavour, graph: "ModelProto", model: Model, target: Target, progress: Progress
) -> tuple[bytes, dict[str, dict[str, Any]], dict[str, int]]:
    trt = found.trt
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    if builder is None:  # the data-centre TensorRT needs a GPU in this machine
        raise EngineError(f"{found.name} {found.version} can't build here (no GPU or driver?)")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.SerializeToString()):
        why = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise EngineError(f"{found.name} {found.version} can't read the graph: {why}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means real fp32; users who want speed choose fp16
    # otherwise the engine may not be captured into a CUDA graph
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if target.runtime == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(found.capability(target.capability), 0)
    config.add_optimization_profile(_profile(builder, network, model))
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{found.name} {found.version} can't build for capability {target.capability}, {target.precision}"
        )
    return bytes(plan), _tensors(network), _layers(network)


def _profile(builder: Any, network: Any, model: Model) -> Any:
    """One optimisation profile for 1 to MAX_FACES faces, tuned for one."""
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        rest, per_face = tuple(tensor.shape)[1:], model.spec.hop_frames if tensor.name == "crops" else 1
        profile.set_shape(tensor.name, (1, *rest), (per_face, *rest), (per_face * MAX_FACES, *rest))
    return profile


def _tensors(network: Any) -> dict[str, dict[str, Any]]:
    ends = [("input", network.get_input(i)) for i in range(network.num_inputs)]
    ends += [("output", network.get_output(i)) for i in range(network.num_outputs)]
    return {
        t.name: {"mode": mode, "dtype": t.dtype.name.lower(), "shape": [int(n) for n in t.shape]} for mode, t in ends
    }


def _layers(network: Any) -> dict[str, int]:
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return dict(Counter(layer.get_output_type(0).name.lower() for layer in layers if layer.num_outputs))


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Reports the outermost phase only. Each phase contains others, too many to read."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._outer: tuple[str, int] | None = None

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self._outer = (phase, steps)
                progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            if self._outer and phase == self._outer[0]:
                progress(phase, step + 1, self._outer[1])
            return True

        def phase_finish(self, phase: str) -> None:
            if self._outer and phase == self._outer[0]:
                progress(phase, self._outer[1], self._outer[1])

    return Monitor()


def ensure(
    model: Model, target: Target, ranges: Mapping[str, float | None] | None = None, progress: Progress = lambda *_: None
) -> Path:
    """The directory of engines for `target` in the user's cache. Builds them first when they are missing or don't
    match.

    Raises EngineError with the command to run when they can't be built here.
    """
    home = sidecar.cached(model, target)
    try:
        sidecar.check(home, model, target)
    except EngineError as stale:
        try:
            compile_engines(model, target, home, ranges, progress)
        except (EngineError, OSError) as error:
            raise EngineError(f"{stale} (building it now failed: {error})") from None
    return home


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A progress bar per phase on stderr. A bar appears when its phase starts, so without a build there is none."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    bars, ids = Bars(console=Console(stderr=True)), dict[str, Any]()

    def progress(phase: str, done: int, total: int) -> None:
        if not ids:
            bars.start()
        if phase not in ids:
            ids[phase] = bars.add_task(phase, total=total)
        bars.update(ids[phase], completed=done, total=total)

    try:
        yield progress
    finally:
        if ids:
            bars.stop()


def write_onnx(model: Model, precision: str, out: Path, ranges: Mapping[str, float | None] | None) -> list[Path]:
    """Both ONNX graphs in `precision`, into `out`."""
    import onnx

    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for half, graph in load_graphs(model, precision, ranges).items():
        paths.append(out / f"mesnet_{half}.onnx")
        onnx.save(graph, paths[-1])
    save_graph_hashes(out)
    return paths


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mestream build",
        description="Compile a model for a runtime.",
        epilog=f"Needs an extra. --runtime onnx: {pip_install('train')}; "
        f"others: the extra of that name, as in {pip_install('tensorrt-rtx')}",
    )
    parser.add_argument("--runtime", choices=RUNTIMES, required=True, help="what is to run it")
    parser.add_argument(
        "--capability", metavar="X.Y", help="GPU capability to compile for, as 8.9; default: this machine's GPU"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="default: fp32")
    parser.add_argument("--model", type=Path, metavar="DIR", help="weights to compile; default: the shipped ones")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the user's cache (onnx: beside the weights)")
    parser.add_argument(
        "--ranges", type=Path, metavar="FILE", help="INT8 ranges; default: mesnet_int8.json of the model"
    )
    return parser


def _writes(args: argparse.Namespace) -> Iterator[Named]:
    if args.out:
        names = [f"mesnet_{half}.{'onnx' if args.runtime == 'onnx' else 'engine'}" for half in HALVES]
        for name in (*names, GRAPH_HASHES if args.runtime == "onnx" else sidecar.FILE):
            yield "--out", args.out / name


def _reads(args: argparse.Namespace) -> Iterator[Named]:
    """The files that the build reads. float32 graphs don't count, since the build may replace the model's own."""
    yield "--ranges", args.ranges
    own = args.runtime == "onnx" and args.precision == "fp32"
    for said, path in model_files(args.model or DEFAULT_DIRECTORY):
        if not own or (Path(path or "").suffix != ".onnx" and Path(path or "").name != GRAPH_HASHES):
            yield said, path


def _build(args: argparse.Namespace) -> list[Path]:
    require("train" if args.runtime == "onnx" else args.runtime, f"--runtime {args.runtime}", "onnx")
    from engine.ranges import load_ranges

    model = load_model(args.model)
    ranges = load_ranges(args.ranges, model.sha256) if args.ranges else None
    if args.runtime == "onnx":
        if args.out is None and args.precision != "fp32":
            raise EngineError(f"--precision {args.precision} needs --out DIR: the model's own graphs are float32")
        return write_onnx(model, args.precision, args.out or model.directory, ranges)
    found = flavour(args.runtime)
    version = found.version if found else "missing"
    target = Target(args.runtime, version, args.capability or gpu_capability() or "unknown", args.precision)
    out = args.out or sidecar.cached(model, target)
    with progress_bars() as progress:
        compile_engines(model, target, out, ranges, progress)
    return [*(sidecar.engine_path(out, half) for half in HALVES), out / sidecar.FILE]


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 built, 1 can't be built, 2 wrong usage."""
    parser = _arguments()
    args = parser.parse_args(argv)
    if args.runtime == "tensorrt-rtx" and not (args.capability or gpu_capability()):
        parser.error("no GPU here to compile for; name one by --capability, as 8.9")
    if why := clash(_writes(args), _reads(args)):
        print(f"engine.build: {why}", file=sys.stderr)
        return 2
    try:
        for path in _build(args):
            print(path)
    except (EngineError, OSError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
