"""Networks of numbers, so that what is computed and how often can be counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from compress.exporting.divergence_search import AT_ONCE, Point, Values, first_divergence

Operator = Callable[..., np.ndarray]
START = np.linspace(-100, 100, 401)


class Network:
    """Operators by name, each with the names of what it reads (nothing: the network's input)."""

    def __init__(self, reads: dict[str, tuple[str, ...]]) -> None:
        self.reads = reads
        self.operators: dict[str, Operator] = dict.fromkeys(reads, lambda *inputs: sum(inputs) / len(inputs) + 1)
        self.changed: dict[str, Operator] = {}
        self.most = self.calls = 0

    @property
    def points(self) -> list[Point]:
        return [Point(name, name, "Op", inputs, (name,), 1.0) for name, inputs in self.reads.items()]

    def reference(self, names: Sequence[str]) -> Values:
        self.calls += 1
        self.most = max(self.most, len(names))
        return self._values(self.operators, names, {})

    def candidate(self, names: Sequence[str], given: Mapping[str, np.ndarray]) -> Values:
        return self._values({**self.operators, **self.changed}, names, given)

    def _values(self, operators: dict[str, Operator], names: Sequence[str], given: Mapping[str, np.ndarray]) -> Values:
        def read(name: str) -> np.ndarray:
            return given[name] if name in given else computed(name)

        def computed(name: str) -> np.ndarray:
            inputs = [read(source) for source in self.reads[name]] or [START]
            return operators[name](*inputs)

        return {name: computed(name) for name in names}

    def found(self) -> str | None:
        divergence = first_divergence(self.points, self.reference, self.candidate)
        return None if divergence is None else divergence.operator


def chain(length: int) -> Network:
    return Network({f"n{i}": (f"n{i - 1}",) if i else () for i in range(length)})


@pytest.mark.parametrize("place", [0, 1, 13, 62, 63])
def test_of_64_in_a_row_the_first_is_found_in_9_looks_one_tensor_at_a_time(place: int) -> None:
    network = chain(64)
    network.changed[f"n{place}"] = lambda x: 4 * (x + 1)
    assert network.found() == f"n{place}"
    assert network.calls <= 9
    assert network.most <= 2


def test_nothing_is_found_where_nothing_differs() -> None:
    assert chain(20).found() is None


def test_the_earlier_of_two_faults_is_found() -> None:
    network = chain(40)
    network.changed["n30"] = network.changed["n12"] = lambda x: x + 60
    assert network.found() == "n12"


def test_rounding_that_adds_up_is_blamed_on_none() -> None:
    network = chain(40)
    network.changed = {name: lambda x: x + 1.4 for name in network.reads}
    assert network.found() is None


def test_a_fault_behind_rounding_that_adds_up_is_found() -> None:
    network = chain(60)
    network.changed = {name: lambda x: x + 1.4 for name in network.reads}
    network.changed["n50"] = lambda x: x + 5
    assert network.found() == "n50"


def test_a_fault_of_few_elements_that_spreads_is_found_where_it_begins() -> None:
    def one_off(x: np.ndarray) -> np.ndarray:
        result = x + 1
        result[7] += 1000
        return result

    network = chain(30)
    network.operators["n20"] = lambda x: np.full_like(x, x.mean())
    network.changed["n11"] = one_off
    assert network.found() == "n11"


def test_a_fault_that_the_output_does_not_show_is_found() -> None:
    network = chain(3 * AT_ONCE)
    network.operators["n40"] = np.zeros_like
    network.changed["n30"] = lambda x: x + 9
    assert network.found() == "n30"
    assert network.most <= 2 * AT_ONCE


@pytest.mark.parametrize("faulty", ["stem", "left1", "left2", "right2", "sum", "out"])
def test_branches_are_searched_by_what_reads_what(faulty: str) -> None:
    network = Network(
        {
            "stem": (),
            "left1": ("stem",),
            "left2": ("left1",),
            "right1": ("stem",),
            "right2": ("right1",),
            "right3": ("right2",),
            "sum": ("left2", "right3"),
            "out": ("sum",),
        }
    )
    network.changed[faulty] = lambda *inputs: sum(inputs) + 50
    assert network.found() == faulty


def test_between_tensors_with_several_roundings_steps_add_up() -> None:
    def found(roundings: int, off: int) -> bool:
        point = Point("n0", "n0", "Op", (), ("a", "b"), 1.0, roundings)
        wrong = np.where(np.arange(len(START)) < off, START + 2, START)
        return first_divergence([point], lambda names: {"n0": START}, lambda names, given: {"n0": wrong}) is not None

    assert found(1, 20)
    assert not found(2, 20)
    assert found(2, 60)
