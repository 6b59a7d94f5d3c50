"""Train MESNet: `python -m engine.train --data DIR --out DIR` (portraits and videos in, weights out).

Makes what it needs on the way: actors from portraits, pools of clips from actors. A run continues from its newest
checkpoint after a kill. `OUT/curves.png` shows how it goes, `OUT/mesnet.safetensors` is the best so far on the tuning people.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.mesnet import STEM_CHANNELS, MESNet
from engine.spec import ModelSpec
from engine.training.loss import total_loss
from engine.training.online import Online, judge
from engine.training.pool import Pool
from stream.errors import UserError

RECIPES = {"small": {"sequences": 8000, "steps": 9000}, "full": {"sequences": 60000, "steps": 120000}}
"""`small` fits an hour of 2 CPU cores, `full` is for a GPU."""


@dataclass(slots=True)
class Progress:
    """What a run has to show: losses by step, judgements on the tuning people by step."""

    losses: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    judged: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    best: float = -1.0


def anchors_of(spec: ModelSpec) -> Tensor:
    """The unmoved candidates [P, 2], start and end in frames, in the order of the CPN."""
    centres = torch.arange(spec.clip_frames // spec.stride) * spec.stride
    lengths = torch.tensor(spec.anchors, dtype=torch.float32)
    centre, length = centres.float().repeat_interleave(len(lengths)), lengths.repeat(len(centres))
    return torch.stack([centre - length / 2, centre + length / 2], dim=1)


def split_stem(rows: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Stored rows [..., features] -> local motion [n, 5L, G, G] and affine [n, 6L], float32."""
    side, lags = spec.crop_px // 8, len(spec.lags)
    local, affine = (
        rows.float().reshape(-1, rows.shape[-1]).split([STEM_CHANNELS * lags * side * side, 6 * lags], dim=1)
    )
    return local.reshape(-1, STEM_CHANNELS * lags, side, side), affine


def mirrored(local: Tensor, affine: Tensor, lags: int) -> tuple[Tensor, Tensor]:
    """The same motion in a mirror: places and horizontal motion change sides."""
    local = local.flip(3)
    local = torch.cat([-local[:, :lags], local[:, lags:]], dim=1)
    sign = affine.new_tensor([[-1, 1], [1, -1], [-1, 1]]).repeat(lags, 1).flatten()  # rows 1, x, y; columns u, v
    return local, affine * sign


def features_of(net: MESNet, rows: Tensor, mirror: bool = False) -> Tensor:
    """Stored rows [N, T, features] -> features [N, T, C]."""
    local, affine = split_stem(rows, net.spec)
    if mirror:
        local, affine = mirrored(local, affine, len(net.spec.lags))
    return net.spatial(local, affine).reshape(rows.shape[0], rows.shape[1], -1)


class Trainer:
    """One run in one folder."""

    def __init__(
        self, out: Path, train: Pool, tune: Pool, steps: int, seed: int, device: str, batch: int = 32, lr: float = 2e-3
    ) -> None:
        self.out, self.train_pool, self.tune_pool = out, train, tune
        self.steps, self.batch, self.device, self.lr = steps, batch, device, lr
        torch.manual_seed(seed)
        self.seed, self.spec = seed, train.spec
        self.net = MESNet(self.spec).to(device)
        decay = [p for p in self.net.parameters() if p.ndim > 1]
        rest = [p for p in self.net.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}], lr=lr
        )
        self.average = torch.optim.swa_utils.AveragedModel(
            self.net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
        )
        self.anchors = anchors_of(self.spec).to(device)
        self.progress = Progress()
        self._resume()

    def _rate(self, step: int) -> float:
        """Warm up, then a cosine down to a hundredth."""
        warm = min(1.0, (step + 1) / 200)
        return self.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2)

    def run(self, judge_every: int = 1000) -> None:
        """Train to the last step; checkpoints and curves at every judgement."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        rng = np.random.default_rng([self.seed, self.progress.step])
        batches = self.train_pool.batches(rng, self.batch)
        with Progress(*columns, refresh_per_second=1) as bar:
            task = bar.add_task("training", total=self.steps, completed=self.progress.step)
            while self.progress.step < self.steps:
                if self.progress.step % 100 == 0:
                    self.train_pool.refresh()
                losses = self.step(*next(batches), mirror=bool(rng.random() < 0.5))
                self.progress.step += 1
                if self.progress.step % 50 == 0:
                    for name, value in losses.items():
                        self.progress.losses[name].append((self.progress.step, value))
                    bar.update(task, completed=self.progress.step, description=f"loss {sum(losses.values()):.3f}")
                if self.progress.step % judge_every == 0 or self.progress.step == self.steps:
                    self.judge()
                    bar.console.print(json.dumps({k: round(v, 4) for k, v in self.progress.judged[-1].items()}))

    def step(self, rows: Tensor, truth: Tensor, valid: Tensor, mirror: bool) -> dict[str, float]:
        """One step of the optimiser; the losses by name."""
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.progress.step)
        rows, truth, valid = rows.to(self.device), truth.to(self.device), valid.to(self.device)
        raw = self.net.raw_heads(features_of(self.net, rows, mirror), valid)
        losses = total_loss(raw, truth, valid, self.anchors, self.spec)
        loss = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 2.0)
        self.optimiser.step()
        self.average.update_parameters(self.net)
        return {name: float(value.detach()) for name, value in losses.items()}

    def judge(self) -> None:
        """Spot the tuning sequences as the live program would; keep the weights if they are the best so far."""
        net = self.average.module.eval()
        result = judge(Online(net, self.device), self.tune_pool)
        self.progress.judged.append({"step": float(self.progress.step), **result})
        if result["f1"] > self.progress.best:
            self.progress.best = result["f1"]
            save_weights(net, self.out / "mesnet.safetensors")
        self._checkpoint()
        plot(self.progress, self.out / "curves.png")

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
        torch.save({**state, "progress": progress, "seed": self.seed, "steps": self.steps}, part)
        part.rename(self.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if (state["seed"], state["steps"]) != (self.seed, self.steps):
            raise UserError(
                f"{path} is of another run (seed {state['seed']}, {state['steps']} steps); give another --out", 2
            )
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        saved = state["progress"]
        losses = defaultdict(list, saved["losses"])
        self.progress = Progress(losses, saved["judged"], saved["step"], saved["best"])


def save_weights(net: MESNet, path: Path) -> None:
    """Weights as safetensors; fixed buffers (filters, anchors) are code and stay out."""
    save_file({name: tensor.contiguous().cpu() for name, tensor in net.state_dict().items()}, path)


def plot(progress: Progress, path: Path) -> None:
    """Loss and tuning curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name, points in progress.losses.items():
        steps, values = np.array(points).T
        left.plot(steps, np.convolve(values, np.ones(9) / 9, "same")[: len(steps)], label=name)
    left.set(yscale="log", xlabel="step", ylabel="loss", title="training")
    left.legend()
    for name in ("f1", "f1_large", "recall_at_1_per_min"):
        right.plot([j["step"] for j in progress.judged], [j[name] for j in progress.judged], marker="o", label=name)
    right.set(ylim=(0, 1), xlabel="step", title="tuning people, live decisions")
    right.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def make(module: str, *arguments: str) -> None:
    """Run a step that this one rests on, in its own process; its output is the user's to see."""
    if subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode:
        raise UserError(f"python -m {module} failed (above); training needs what it makes")


def prepare_pools(options: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Actors and pools in OUT, made where they are missing."""
    if options.pool:
        return options.pool, options.tune
    if not options.data:
        raise UserError(
            "give --data DIR (portraits to make clips from) or --pool DIR --tune DIR (pools made before)", 2
        )
    actors, train, tune = (options.out / name for name in ("actors", "pool-train", "pool-tune"))
    if not any(actors.glob("*.npz")):
        make("engine.training.actors", "--data", str(options.data), "--out", str(actors))
    count = options.sequences or RECIPES[options.recipe]["sequences"]
    for split, folder, n in (("tune", tune, max(64, count // 25)), ("train", train, count)):
        make(
            "engine.training.pool",
            "--actors",
            str(actors),
            "--out",
            str(folder),
            "--split",
            split,
            "--sequences",
            str(n),
            "--device",
            options.device,
        )
    return [train], [tune]


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.train`."""
    parser = argparse.ArgumentParser(prog="python -m engine.train", description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds portraits/ (and video/)")
    parser.add_argument("--pool", type=Path, nargs="+", help="pools to train on, instead of --data")
    parser.add_argument("--tune", type=Path, nargs="+", help="pools to choose by, with --pool")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="small")
    parser.add_argument("--sequences", type=int, help="how many sequences to make (default: the recipe's)")
    parser.add_argument("--steps", type=int, help="steps of the optimiser (default: the recipe's)")
    parser.add_argument(
        "--judge-every", type=int, default=1000, help="steps between two judgements on the tuning people"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    try:
        if options.pool and not options.tune:
            raise UserError("--pool needs --tune DIR, a pool of other people to choose by", 2)
        options.out.mkdir(parents=True, exist_ok=True)
        train, tune = prepare_pools(options)
        spec = ModelSpec()
        began = time.monotonic()
        steps = options.steps or RECIPES[options.recipe]["steps"]
        Trainer(options.out, Pool(train, spec), Pool(tune, spec), steps, options.seed, options.device).run(
            options.judge_every
        )
        print(
            f"{steps} steps in {(time.monotonic() - began) / 60:.0f} min; weights in {options.out / 'mesnet.safetensors'}"
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
