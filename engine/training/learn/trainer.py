"""One training run in one folder: steps, judgements on the tuning people, checkpoints, curves."""

import contextlib
import ctypes
import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from engine.export import save_model
from engine.mesnet import MESNet
from engine.spec import ModelSpec
from engine.training.learn.batches import Batch, Draws, seen
from engine.training.learn.imprint import Imprinter
from engine.training.learn.loss import teacher_loss, total_loss
from engine.training.learn.online import Online, judge
from engine.training.learn.relative import per_stream
from engine.training.pools.pool import Pool
from engine.training.pools.stemmed import features_of
from stream.errors import UserError


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a run. `rate`: highest learning rate. `start`: weights to continue from, else from scratch.
    `workers`: processes that draw the next batches; with 0 they are drawn between the steps. `errors_px`: see
    `batches.Draws`. `teacher`: weights of a network that sees the clips as they were before an encoder. Training
    also follows its output. `mix`: clips are mixed by region."""

    steps: int
    seed: int = 0
    device: str = "cpu"
    batch: int = 32
    rate: float = 2e-3
    start: Path | None = None
    workers: int = 0
    errors_px: tuple[float, float] | None = None
    teacher: Path | None = None
    mix: bool = False


@dataclass(slots=True)
class Progress:
    """Progress of a run: losses by step, and judgements on the tuning people by step."""

    losses: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    judged: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    best: float = -1.0


def anchors_of(spec: ModelSpec) -> Tensor:
    """The candidates [P, 2] before the CPN moves them: start and end in frames, in the order of the CPN."""
    centres = torch.tensor(spec.centres)
    lengths = torch.tensor(spec.anchors, dtype=torch.float32)
    centre, length = centres.float().repeat_interleave(len(lengths)), lengths.repeat(len(centres))
    return torch.stack([centre - length / 2, centre + length / 2], dim=1)


def _memory(steps: int) -> float:
    """Decay of the averaged weights per step. They cover the last 500 steps, or the last tenth in a run below 5000
    steps."""
    return 0.998 ** max(1.0, 5000 / steps)


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively. A step is then a third faster; without, it is ten times slower."""
    # PyTorch before 2.10 may not report it. float32 works everywhere.
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


class Trainer:
    """One run in one folder."""

    def __init__(self, out: Path, train: Pool, tune: Pool, plan: Plan, imprinter: Imprinter | None = None) -> None:
        for pool in (train, tune):
            if not len(pool):
                named = ", ".join(map(str, pool.folders))
                raise UserError(
                    f"{named}: no finished shard; let python -m engine.training.pools.pool end its first", 2
                )
        self.out, self.train_pool, self.tune_pool, self.plan = out, train, tune, plan
        self.spec, self.device = train.spec, plan.device
        self.draws = Draws(train, plan.seed, plan.batch, imprinter, plan.errors_px, plan.mix)
        torch.manual_seed(plan.seed)
        self.net = MESNet(self.spec).to(self.device)
        if plan.start:
            _load(self.net, plan.start, "--start")
        self.teacher: tuple[MESNet, Pool] | None = None  # and its view of the clips
        if plan.teacher:
            self.teacher = MESNet(self.spec).to(self.device).eval(), train.before()
            _load(self.teacher[0], plan.teacher, "--teacher")
        decay = [p for p in self.net.parameters() if p.ndim > 1]
        rest = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=plan.rate, fused=plan.device != "cpu")
        self.average = torch.optim.swa_utils.AveragedModel(
            self.net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_memory(plan.steps)), use_buffers=True
        )
        self.anchors = anchors_of(self.spec).to(self.device)
        self.progress = Progress()
        self._resume()

    def _rate(self, step: int) -> float:
        """Warm up, then a cosine down to a hundredth."""
        warm = min(1.0, (step + 1) / min(200, max(1, self.plan.steps // 8)))
        return self.plan.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / self.plan.steps)) / 2)

    def run(self, judge_every: int = 1000) -> None:
        """Trains to the last step. Every judgement writes checkpoints and curves."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, refresh_per_second=1) as bar:
            task = bar.add_task("training", total=self.plan.steps, completed=self.progress.step)
            for batch in self._batches():
                losses = self.step(batch)
                self.progress.step += 1
                if self.progress.step % 50 == 0:
                    values = {name: float(value) for name, value in losses.items()}
                    for name, value in values.items():
                        self.progress.losses[name].append((self.progress.step, value))
                    loss = f"loss {sum(values.values()):.3f}"
                    bar.update(task, completed=self.progress.step, description=loss)
                    if not bar.console.is_terminal:  # in a file, the bar is printed only once, at the end
                        bar.console.print(f"step {self.progress.step} of {self.plan.steps}: {loss}")
                if self.progress.step % judge_every == 0 or self.progress.step == self.plan.steps:
                    self.judge()
                    bar.console.print(json.dumps({k: round(v, 4) for k, v in self.progress.judged[-1].items()}))

    def _batches(self) -> DataLoader[Batch]:
        """The batches of the remaining steps, in order. A batch depends only on its step's number, so a run that was
        killed continues as if it had not been."""
        workers = self.plan.workers
        return DataLoader(
            self.draws,
            batch_size=None,
            sampler=range(self.progress.step, self.plan.steps),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            multiprocessing_context="spawn" if workers else None,
            pin_memory=self.device != "cpu",
        )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the optimiser. Returns the losses by name."""
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.progress.step)
        rows, truth = seen(batch, self.train_pool, self.net.stem)
        valid = batch.valid.to(self.device, non_blocking=True)
        with self._fast():
            features = features_of(self.net, rows, batch.mirror)
        raw = self.net.raw_heads(features.float(), valid)
        asked, there = truth, valid
        if self.spec.streams > 1:
            asked, there = per_stream(truth, batch.seen.to(self.device, non_blocking=True), valid)
        losses = total_loss(raw, asked, there, self.anchors)
        if self.teacher is not None:
            teacher, before = self.teacher
            with torch.no_grad():
                rows, _ = seen(batch, before, self.net.stem)
                with self._fast():
                    features = features_of(teacher, rows, batch.mirror)
                taught = teacher.raw_heads(features.float(), valid)
            losses |= teacher_loss(raw, taught, valid)
        loss = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 2.0)
        self.optimiser.step()
        self.average.update_parameters(self.net)
        return {name: value.detach() for name, value in losses.items()}

    def _fast(self) -> torch.autocast:
        """The 2D half in bfloat16, if that is faster."""
        device = torch.device(self.device).type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu" or cpu_has_bfloat16())

    def judge(self) -> None:
        """Spots the tuning sequences as the live program would. Keeps the weights if they are the best so far."""
        net = self.average.module.eval()
        assert isinstance(net, MESNet)
        result = judge(Online(net, self.device), self.tune_pool)
        self.progress.judged.append({"step": float(self.progress.step), **result})
        if result["f1"] > self.progress.best:
            self.progress.best = result["f1"]
            save_file({k: v.contiguous().cpu() for k, v in net.state_dict().items()}, self.out / "mesnet.safetensors")
        self._checkpoint()
        plot(self.progress, self.out / "curves.png")

    def export(self) -> None:
        """Makes the folder a model directory (see `engine.model`) with the best weights."""
        net = MESNet(self.spec.live())
        net.load_state_dict(load_file(self.out / "mesnet.safetensors"))
        save_model(net.eval(), self.out)

    def _checkpoint(self) -> None:
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        progress = {
            "losses": dict(self.progress.losses),
            "judged": self.progress.judged,
            "step": self.progress.step,
            "best": self.progress.best,
        }
        part = self.out / "checkpoint.part"
        torch.save({**state, "progress": progress, "seed": self.plan.seed, "steps": self.plan.steps}, part)
        part.rename(self.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if (state["seed"], state["steps"]) != (self.plan.seed, self.plan.steps):
            raise UserError(
                f"{path} is of another run (seed {state['seed']}, {state['steps']} steps); give another --out", 2
            )
        try:
            self.net.load_state_dict(state["net"])
        except RuntimeError:
            raise UserError(
                f"{path} is of another network than {self.spec.name} is now; give another --out", 2
            ) from None
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        saved = state["progress"]
        losses = defaultdict(list, saved["losses"])
        self.progress = Progress(losses, saved["judged"], saved["step"], saved["best"])


def _load(net: MESNet, path: Path, option: str) -> None:
    try:
        net.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise UserError(
            f"{option} {path}: no weights of {net.spec.name} ({why}); leave it out or name others", 2
        ) from None


def plot(progress: Progress, path: Path) -> None:
    """Loss and tuning curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name, points in progress.losses.items():
        steps, values = np.array(points).T
        wide = min(9, len(values))
        left.plot(steps[wide - 1 :], np.convolve(values, np.ones(wide) / wide, "valid"), label=name)
    left.set(yscale="log", xlabel="step", ylabel="loss", title="training")
    if progress.losses:
        left.legend()
    for name in ("f1", "f1_large", "recall_at_1_per_min"):
        right.plot([j["step"] for j in progress.judged], [j[name] for j in progress.judged], marker="o", label=name)
    right.set(ylim=(0, 1), xlabel="step", title="tuning people, live decisions")
    right.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def keep_memory() -> None:
    """Makes glibc keep the memory that a step frees. Returning and requesting it again costs as much as the step
    itself."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**30)
