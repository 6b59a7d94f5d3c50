"""Promises of engine.batcher: one batch for all, a deadline for each, everyone's own order, everyone's own faults."""

import threading
from collections.abc import Hashable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batcher import Batcher, Gathering, Request
from engine.decode import Proposal
from engine.errors import EngineError
from engine.model import Model
from engine.rings import Step
from engine.runtimes.onnx import OnnxRuntime
from engine.scorer import Scorer

NOTHING = np.zeros((0, 32, 32), np.uint8)
WAIT_S = 20


def ask(face: Hashable, at_s: float) -> Request:
    return Request(face, NOTHING, at_s)


def forget(face: Hashable, at_s: float) -> Request:
    return Request(face, None, at_s)


def test_nobody_waits_nothing_is_due() -> None:
    assert Gathering(0.005).due_s() is None


def test_a_full_batch_goes_at_once() -> None:
    gathering = Gathering(0.005)
    for request in (ask("a", 10.0), ask("b", 10.001)):
        gathering.add(request)
    assert gathering.due_s() == -np.inf
    assert [r.face for r in gathering.take()] == ["a", "b"]


def test_a_late_face_delays_the_others_by_the_deadline_at_most() -> None:
    gathering = Gathering(0.005)
    for request in (ask("a", 1.0), ask("b", 1.0)):
        gathering.add(request)
    gathering.take()
    gathering.add(ask("a", 2.0))
    assert gathering.due_s() == 2.005
    assert [r.face for r in gathering.take()] == ["a"]


def test_who_is_forgotten_is_not_waited_for() -> None:
    gathering = Gathering(0.005)
    for request in (ask("a", 1.0), ask("b", 1.0), forget("b", 1.0)):
        gathering.add(request)
    gathering.take()
    gathering.add(ask("a", 2.0))
    assert gathering.due_s() == -np.inf


def test_a_face_goes_once_per_batch_in_its_own_order() -> None:
    gathering = Gathering(0.005)
    first, gap, second, third = ask("a", 1.0), forget("a", 1.1), ask("a", 1.2), ask("a", 1.3)
    for request in (first, gap, second, third):
        gathering.add(request)
    assert gathering.take() == [first, gap]
    assert gathering.take() == [second]
    assert gathering.take() == [third]
    assert gathering.due_s() is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_nothing_is_lost_doubled_or_overtaken(script: list[tuple[str, bool, bool]]) -> None:
    gathering, added, taken = Gathering(0.005), [], []
    for i, (face, gap, take) in enumerate(script):
        added.append(forget(face, i) if gap else ask(face, i))
        gathering.add(added[-1])
        if take:
            taken += gathering.take()
    while gathering.due_s() is not None:
        batch = gathering.take()
        scored = [r.face for r in batch if r.crops is not None]
        assert batch
        assert len(scored) == len(set(scored))
        taken += batch
    for face in "abc":
        assert [r.asked_s for r in taken if r.face == face] == [r.asked_s for r in added if r.face == face]


class Watched(OnnxRuntime):
    """The real runtime, which remembers how many clips each step had."""

    def __init__(self, model: Model, faces: int) -> None:
        super().__init__(model, faces)
        self.clips: list[int] = []

    def step(self, step: Step) -> np.ndarray:
        self.clips.append(len(step.clip_read))
        return super().step(step)


@pytest.mark.slow
def test_sources_in_threads_get_what_they_would_get_alone(tiny_model: Model, moving_crops) -> None:
    """Three sources at once, one with a gap: each gets exactly the proposals of a scorer of its own."""
    spec = tiny_model.spec
    batcher = Batcher(Scorer(OnnxRuntime(tiny_model, 3), spec, floor=0.0))
    got: dict[str, list[list[Proposal]]] = {}

    def source(name: str, seed: int) -> None:
        crops = moving_crops(40, spec.crop_px, seed)
        got[name] = []
        for i in range(0, 40, 4):
            if name == "b" and i == 20:
                batcher.forget("b")
            got[name].append(batcher.score({name: crops[i : i + 4]})[name])

    threads = [threading.Thread(target=source, args=(name, seed)) for seed, name in enumerate("abc")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    batcher.close()
    for seed, name in enumerate("abc"):
        alone: Scorer[str] = Scorer(OnnxRuntime(tiny_model, 1), spec, floor=0.0)
        crops = moving_crops(40, spec.crop_px, seed)
        for hop, i in enumerate(range(0, 40, 4)):
            if name == "b" and i == 20:
                alone.forget("b")
            want = alone.score({name: crops[i : i + 4]})[name]
            assert [p.score for p in got[name][hop]] == pytest.approx([p.score for p in want], abs=1e-5)


def test_who_asks_together_goes_together(tiny_model: Model, moving_crops) -> None:
    runtime = Watched(tiny_model, 3)
    batcher = Batcher(Scorer(runtime, tiny_model.spec), deadline_s=WAIT_S)
    crops = moving_crops(8, tiny_model.spec.crop_px, 0)
    batcher.score({"a": crops[:4], "b": crops[:4]})
    asker = threading.Thread(target=batcher.score, args=({"a": crops[4:]},))
    asker.start()
    batcher.score({"b": crops[4:]})  # returns only with "a", as the deadline is far
    asker.join(WAIT_S)
    batcher.close()
    assert runtime.clips == [2, 2]


def test_a_silent_face_holds_nobody_up(tiny_model: Model, moving_crops) -> None:
    runtime = Watched(tiny_model, 2)
    batcher = Batcher(Scorer(runtime, tiny_model.spec), deadline_s=0.005)
    crops = moving_crops(8, tiny_model.spec.crop_px, 0)
    batcher.score({"a": crops[:4], "late": crops[:4]})
    batcher.score({"a": crops[4:]})
    batcher.close()
    assert runtime.clips == [2, 1]


def test_a_fault_is_the_asker_s_own(tiny_model: Model, moving_crops) -> None:
    """One face too many: it hears of it, the one that was there first is served in the same batch."""
    batcher = Batcher(Scorer(OnnxRuntime(tiny_model, 1), tiny_model.spec), deadline_s=0.2)
    crops = moving_crops(8, tiny_model.spec.crop_px, 0)
    batcher.score({"a": crops[:4]})
    faults: list[BaseException] = []

    def one_too_many() -> None:
        try:
            batcher.score({"b": crops[:4]})
        except EngineError as error:
            faults.append(error)

    other = threading.Thread(target=one_too_many)
    other.start()
    assert "a" in batcher.score({"a": crops[4:]})
    other.join(WAIT_S)
    batcher.close()
    assert "more than 1 faces" in str(faults[0])


def test_a_scorer_that_breaks_reaches_every_asker(tiny_model: Model, moving_crops) -> None:
    class Broken(OnnxRuntime):
        def step(self, step: Step) -> np.ndarray:
            raise MemoryError("the device is gone")

    batcher = Batcher(Scorer(Broken(tiny_model, 1), tiny_model.spec))
    with pytest.raises(MemoryError, match="the device is gone"):
        batcher.score({"a": moving_crops(4, tiny_model.spec.crop_px, 0)})
    batcher.close()


def test_closed_is_said(tiny_model: Model) -> None:
    batcher = Batcher(Scorer(OnnxRuntime(tiny_model, 1), tiny_model.spec))
    batcher.close()
    with pytest.raises(EngineError, match="the scorer is closed"):
        batcher.score({"a": NOTHING})
