"""The training target of MESNet: the assignment of candidate clips to the truth, and the sum of the losses.

The truth of a clip is rows float32[M, 9]; see `engine.training.pools.truth`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.mesnet import RawHeads
from engine.training.pools.truth import BLINK, HEAD, MACRO, MICRO, NONE, SPEECH, UNKNOWN

SEEN_SHARE, SEEN_FRAMES = 0.4, 5.0
"""An interval at the clip's end counts once this share of it, and this many frames, are in the clip."""


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Temporal intersection over union of clips [..., P, 2] with [..., M, 2] -> [..., P, M]."""
    low = torch.maximum(a[..., :, None, 0], b[..., None, :, 0])
    high = torch.minimum(a[..., :, None, 1], b[..., None, :, 1])
    inter = (high - low).clamp(min=0)
    length_a, length_b = (a[..., 1] - a[..., 0])[..., :, None], (b[..., 1] - b[..., 0])[..., None, :]
    return inter / (length_a + length_b - inter).clamp(min=1e-3)


def visible(truth: Tensor, valid: Tensor) -> Tensor:
    """Which rows [N, M] have enough frames in the clip to be required. The clip's existing frames are its last ones."""
    first = (valid == 0).sum(dim=1, keepdim=True)
    seen = truth[..., 3].clamp(max=valid.shape[1] - 1) - torch.maximum(truth[..., 1], first)
    need = ((truth[..., 3] - truth[..., 1]) * SEEN_SHARE).clamp(min=SEEN_FRAMES)
    return seen >= need


def total_loss(raw: RawHeads, truth: Tensor, valid: Tensor, anchors: Tensor) -> dict[str, Tensor]:
    """Losses by name. `truth` [N, M, 9], `valid` [N, T], `anchors` [P, 2]: the candidates before the CPN moves them."""
    asked = (truth[..., 0] == MICRO) & visible(truth, valid)
    return {
        **proposal_loss(raw, truth, asked, anchors),
        **candidate_loss(raw, truth, asked),
        "frames": frame_loss(raw.frames, truth, valid),
    }


def proposal_loss(raw: RawHeads, truth: Tensor, asked: Tensor, anchors: Tensor) -> dict[str, Tensor]:
    """Loss of the CPN. Anchors that overlap a micro-expression well are positive, and so is the best anchor of each.

    `asked` [N, M]: the micro-expressions to find.
    """
    spans = truth[..., [1, 3]]
    micro = truth[..., 0] == MICRO
    overlap = iou(anchors[None].expand(len(truth), -1, -1), spans) * micro[:, None]
    mine = overlap * asked[:, None]
    best, which = mine.max(dim=2)
    top = mine.amax(dim=1, keepdim=True)
    forced = ((mine == top) & (mine > 0.2)).any(dim=2)
    positive = (best >= 0.5) | forced
    ignored = ~positive & (overlap.amax(dim=2) >= 0.3)
    weight = truth[..., 4].gather(1, which)
    focal = focal_bce(raw.objectness, positive.float()) * torch.where(positive, weight, 1.0) * ~ignored
    count = positive.sum().clamp(min=8)
    off = distance(raw.clips, spans.gather(1, which[..., None].expand(-1, -1, 2)))
    return {"cpn": focal.sum() / count, "cpn_times": (off * positive * weight).sum() / count}


def candidate_loss(raw: RawHeads, truth: Tensor, asked: Tensor) -> dict[str, Tensor]:
    """Loss of the CRN: the true class of each moved candidate, and the times and regions of micro-expressions."""
    clips = raw.clips.detach()
    overlap = iou(clips, truth[..., [1, 3]])
    best, which = (overlap * asked[:, None]).max(dim=2)
    positive = best >= 0.5
    micro = truth[..., 0] == MICRO
    ignored = ~positive & ((overlap * micro[:, None]).amax(dim=2) >= 0.35)
    target = torch.where(positive, MICRO, nuisance(clips, truth, overlap))
    weight = torch.where(positive, truth[..., 4].gather(1, which), 1.0)
    every = F.log_softmax(raw.classes, dim=-1)
    unknown = (truth[..., 0] == UNKNOWN).any(dim=1)
    anything_else = torch.logsumexp(every[..., 1:], dim=-1)
    logp = every.gather(2, target[..., None])[..., 0]
    logp = torch.where(unknown[:, None] & (target != MICRO), anything_else, logp)
    hard = (1 - logp.exp()).square()  # focal loss, gamma 2 (Lin et al. 2017)
    count = positive.sum().clamp(min=8)
    balance = torch.where(target == NONE, 0.5, 1.0)
    off = distance(raw.times, truth[..., 1:4].gather(1, which[..., None].expand(-1, -1, 3)))
    share = truth[..., 5:9].gather(1, which[..., None].expand(-1, -1, 4))
    cross_entropy = -(F.log_softmax(raw.regions, dim=-1) * share).sum(-1)
    return {
        "crn": (-logp * hard * balance * weight * ~ignored).sum() / count,
        "crn_times": (off * positive * weight).sum() / count,
        "regions": 0.2 * (cross_entropy * positive * weight).sum() / count,
    }


def teacher_loss(raw: RawHeads, taught: RawHeads, valid: Tensor) -> dict[str, Tensor]:
    """Keeps a network close to a teacher's output for the same clips, and is 0 when both agree. It is knowledge
    distillation (Hinton et al. 2015) of the CPN, the CRN's classes and the frames. `taught` has no gradients.

    It is weighted like the losses of the truth. What the teacher takes for a micro-expression replaces the true ones.
    """
    wanted = torch.sigmoid(taught.objectness)
    off = (torch.sigmoid(raw.objectness) - wanted).detach().abs()  # a larger error weighs more, as in the focal loss
    likely = taught.classes.softmax(-1)
    every = (likely * (taught.classes.log_softmax(-1) - raw.classes.log_softmax(-1))).sum(-1)
    count = (wanted > 0.3).sum().clamp(min=8)
    return {
        "taught_cpn": 2 * (_beyond(raw.objectness, taught.objectness) * off).sum() / count,
        "taught_crn": (every * likely[..., MICRO].clamp(min=0.05)).sum() / count,
        "taught_frames": (_beyond(raw.frames, taught.frames).sum(1) * valid).sum() / valid.sum(),
    }


def _beyond(logits: Tensor, taught: Tensor) -> Tensor:
    """Binary Kullback-Leibler divergence from the teacher's output, elementwise."""
    wanted = torch.sigmoid(taught)
    bce = F.binary_cross_entropy_with_logits
    return bce(logits, wanted, reduction="none") - bce(taught, wanted, reduction="none")


def distance(times: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 between times [N, P, k] as shares of the wanted interval (first to last of k), summed -> [N, P]."""
    length = (wanted[..., -1] - wanted[..., 0]).clamp(min=3)[..., None]
    off = (times - wanted) / length
    return F.smooth_l1_loss(off, torch.zeros_like(off), beta=0.1, reduction="none").sum(-1)


def nuisance(clips: Tensor, truth: Tensor, overlap: Tensor) -> Tensor:
    """Class [N, P] of candidates that are no micro-expression. A blink goes by IoU, longer classes by the covered
    share."""
    low = torch.maximum(clips[..., :, None, 0], truth[..., None, :, 1])
    high = torch.minimum(clips[..., :, None, 1], truth[..., None, :, 3])
    covered = (high - low).clamp(min=0) / (clips[..., 1] - clips[..., 0]).clamp(min=1)[..., None]
    kind = truth[..., 0][:, None]
    target = torch.full(clips.shape[:2], NONE, dtype=torch.long, device=clips.device)
    over = covered >= 0.6
    for what, by in ((HEAD, over), (MACRO, over), (SPEECH, over), (BLINK, overlap >= 0.4)):  # the last match wins
        target = torch.where((by & (kind == what)).any(dim=2), what, target)
    return target


def frame_loss(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Loss of the presence of each kind per frame: logits [N, K, T] against the intervals. Gives dense gradients
    from the first step."""
    t = torch.arange(valid.shape[1], device=valid.device, dtype=torch.float32)
    inside = (t >= truth[..., 1:2]) & (t <= truth[..., 3:4])  # [N, M, T]
    loss = logits.new_zeros(())
    known = valid * ~(truth[..., 0] == UNKNOWN).any(dim=1, keepdim=True)
    for kind in range(logits.shape[1]):
        mine = inside & (truth[..., :1] == kind)
        present = mine.any(dim=1).float()
        faint = torch.where(mine, truth[..., 4:5], 1.0).amin(dim=1)  # faint ones weigh less
        # the micro class is rare, so it weighs more
        ratio, share, where = (3.0, 2.0, valid) if kind == MICRO else (1.0, 0.5, known)
        bce = F.binary_cross_entropy_with_logits(
            logits[:, kind], present, reduction="none", pos_weight=logits.new_full((), ratio)
        )
        loss = loss + share * (bce * where * faint).sum() / valid.sum()
    return loss


def focal_bce(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Binary focal loss (Lin et al. 2017), elementwise."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = torch.sigmoid(logits)
    return bce * (target - p).abs() ** gamma
