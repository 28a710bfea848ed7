from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from compress.bundle import Bundle, Kind
from compress.chain import Link, Origin, linked
from compress.stage import Context, Metrics, Stage


class _Named(Stage):
    verb: ClassVar[str] = "train"
    gives: ClassVar[Kind | None] = Kind.TORCH
    model: str | None = None
    teacher: str | None = None

    def references(self) -> dict[str, str | None]:
        named = {"teacher": self.teacher} if "teacher" in self.takes else {}
        return {"source": self.model, **named}

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        return {}


class _Distill(_Named):
    verb: ClassVar[str] = "distill"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,), "teacher": (Kind.TORCH,)}


class _Quantize(_Named):
    verb: ClassVar[str] = "quantize"
    gives: ClassVar[Kind | None] = Kind.QUANTIZED


class _Export(_Named):
    verb: ClassVar[str] = "export"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH, Kind.QUANTIZED)}
    gives: ClassVar[Kind | None] = Kind.ONNX


class _Measure(_Named):
    verb: ClassVar[str] = "measure"
    gives: ClassVar[Kind | None] = None


TWO = {"teacher": False, "student": False}


def _texts(links: list[Link], models: Mapping[str, bool]) -> list[str]:
    return [f"{position} {key}: {message}" for position, key, message in linked(links, models)[1]]


def test_a_models_name_means_its_latest_state_and_a_stages_name_its_output() -> None:
    links = [
        Link("a", _Named(model="teacher")),
        Link("b", _Distill(model="student", teacher="teacher")),
        Link("c", _Named()),
        Link("d", _Distill(model="teacher", teacher="student")),
        Link("e", _Distill(model="student", teacher="b")),
        Link("f", _Named(), source="a"),
        Link("g", _Named(), source="teacher"),
    ]
    inputs, faults = linked(links, TWO)
    assert not faults
    assert inputs == [
        {"source": Origin("teacher")},
        {"source": Origin("student"), "teacher": Origin("teacher", "a")},
        {"source": Origin("student", "b")},
        {"source": Origin("teacher", "a"), "teacher": Origin("student", "c")},
        {"source": Origin("student", "c"), "teacher": Origin("student", "b")},
        {"source": Origin("teacher", "a")},
        {"source": Origin("teacher", "f")},
    ]


def test_the_only_model_needs_no_name_but_one_of_two_does() -> None:
    inputs, faults = linked([Link("a", _Named())], {"net": True})
    assert (inputs, faults) == ([{"source": Origin("net")}], [])
    assert _texts([Link("a", _Named())], TWO) == [
        "0 model: no stage stands above; say which model: one of teacher, student"
    ]


def test_a_stage_that_only_measures_is_passed_over() -> None:
    links = [Link("a", _Named()), Link("m", _Measure()), Link("b", _Named()), Link("c", _Named(model="m"))]
    inputs, faults = linked(links, {"net": True})
    assert inputs[2] == {"source": Origin("net", "a")}
    assert faults == [(3, "model", "stage 'm' gives no model")]


def test_an_export_is_not_a_state_of_its_model() -> None:
    links = [Link("a", _Named()), Link("x", _Export()), Link("q", _Quantize(model="net")), Link("y", _Export())]
    inputs, faults = linked(links, {"net": True})
    assert not faults
    assert inputs[2] == {"source": Origin("net", "a")}


def test_quantizing_does_not_hide_the_float_network_from_a_models_name() -> None:
    links = [
        Link("q", _Quantize()),
        Link("x", _Export()),
        Link("again", _Quantize(), source="net"),
        Link("y", _Export(model="net")),
        Link("d", _Distill(model="net", teacher="net")),
    ]
    inputs, faults = linked(links, {"net": True})
    assert not faults
    assert inputs[2] == {"source": Origin("net")}
    assert inputs[3] == {"source": Origin("net", "again")}
    assert inputs[4] == {"source": Origin("net"), "teacher": Origin("net")}


def test_stages_that_cannot_follow_each_other_say_what_could_be_read() -> None:
    links = [
        Link("a", _Named()),
        Link("q", _Quantize()),
        Link("b", _Named()),
        Link("x", _Export()),
        Link("y", _Export()),
    ]
    first, second = _texts(links, {"net": True})
    assert first == (
        "2 model: train needs a float network, but 'q' gives a quantized network: put train above it, or say `from: a`"
    )
    assert second.startswith(
        "4 model: export needs a float network or a quantized network, but 'x' gives an exported file"
    )


def test_later_unknown_and_own_names() -> None:
    links = [
        Link("a", _Named(model="b")),
        Link("b", _Named(model="b")),
        Link("c", _Distill(model="studnet", teacher="teacher")),
        Link("d", _Named(), source="nothing"),
    ]
    assert _texts(links, TWO) == [
        "0 model: stage 'b' comes later; only models and stages above can be read",
        "1 model: 'b' is this stage itself; name a model or a stage above",
        "2 model: unknown model or stage 'studnet' (did you mean 'student'?)",
        "3 from: unknown model or stage 'nothing'; there is teacher, student, a, b, c",
    ]


def test_a_teacher_must_have_been_trained() -> None:
    links = [Link("a", _Distill(model="student", teacher="teacher")), Link("b", _Named(model="teacher"))]
    assert _texts(links, TWO) == [
        "0 teacher: the teacher 'teacher' is untrained here: train it above, or give it weights"
    ]


def test_a_teacher_with_weights_needs_no_training() -> None:
    assert not _texts([Link("a", _Distill(model="student", teacher="teacher"))], {"teacher": True, "student": False})


def test_a_wrong_stage_hides_what_depends_on_it_and_nothing_else() -> None:
    links = [
        Link("a", None),
        Link("b", _Named()),
        Link("c", _Named(model="teacher", teacher="x"), partial=True),
        Link("d", _Distill.model_construct(model=None, teacher="tescher"), partial=True),
        Link("e", _Named(model="nothing")),
    ]
    assert _texts(links, TWO) == [
        "3 teacher: unknown model or stage 'tescher' (did you mean 'teacher'?)",
        "4 model: unknown model or stage 'nothing'; there is teacher, student, a, b, c, d",
    ]
