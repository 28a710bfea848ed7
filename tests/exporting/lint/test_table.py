from __future__ import annotations

from typing import get_args

import onnx
import pytest

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.emissions.tensorrt import emit_float16
from compress.exporting.lint.check import lint
from compress.exporting.lint.table import PROFILES
from compress.exporting.stage import Emission
from compress.targets.emissions import UNCALIBRATED_EMISSIONS
from tests.exporting.canonical_graphs import canonical_graph
from tests.exporting.emissions.token_graphs import token_network
from tests.exporting.lint.broken import CASES, OTHER_CASES, Case

RULES = [(profile, rule.name) for profile, rules in PROFILES.items() for rule in rules]


def test_every_emission_has_a_profile() -> None:
    assert set(PROFILES) == set(get_args(Emission))


def test_every_rule_of_a_profile_has_its_own_name_and_a_graph_that_breaks_it() -> None:
    for rules in PROFILES.values():
        assert len({rule.name for rule in rules}) == len(rules)
    assert {name for _, name in RULES} == set(CASES)
    assert set(OTHER_CASES) <= set(RULES)


def broken(case: Case, profile: str, name: str) -> None:
    model = case.model()
    if name == "absolute-path":
        metadata = model.graph.node[0].metadata_props.add()
        metadata.key, metadata.value = "stack_trace", 'File "/home/someone/project/network.py", line 3, in forward'
    found = [finding for finding in lint(model, profile) if finding.rule == name]
    assert case.node in [finding.node for finding in found]
    assert all(finding.message and finding.advice for finding in found)


@pytest.mark.parametrize(("profile", "name"), RULES)
def test_a_graph_that_breaks_a_rule_is_found(profile: str, name: str) -> None:
    broken(CASES[name], profile, name)


@pytest.mark.parametrize(
    ("profile", "name", "case"), [(*key, case) for key, cases in OTHER_CASES.items() for case in cases]
)
def test_so_are_other_ways_to_break_it(profile: str, name: str, case: Case) -> None:
    broken(case, profile, name)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name not in UNCALIBRATED_EMISSIONS])
@pytest.mark.parametrize("network", ["residual", "encoder-decoder", "mobile"])
def test_what_we_emit_is_clean(network: str, profile: str) -> None:
    canonical = canonical_graph(network, symmetric=profile == "tensorrt", weight_bits=7)[0]
    assert lint(EMISSIONS[profile](canonical), profile) == []


@pytest.mark.parametrize("profile", UNCALIBRATED_EMISSIONS)
def test_so_is_what_needs_no_calibration_and_none_of_it_is_a_float_file(profile: str) -> None:
    made = EMISSIONS[profile](token_network())
    assert lint(made, profile) == []
    assert {finding.rule for finding in lint(made, "fp32")} >= {"no-integers"}
    others = [name for name in UNCALIBRATED_EMISSIONS if name != profile]
    assert all(finding.severity == "error" for name in others for finding in lint(made, name)[:1])
    assert all(lint(made, name) for name in others)


def test_a_file_for_one_is_not_one_for_another() -> None:
    canonical = canonical_graph("residual", symmetric=True, weight_bits=7)[0]
    emitted = {name: EMISSIONS[name](canonical) for name in ("fp32", "ort-x86", "ort-arm")}
    emitted["tensorrt"] = emit_float16(canonical)
    wrong = {
        (made, profile): {finding.rule for finding in lint(proto, profile) if finding.severity == "error"}
        for made, proto in emitted.items()
        for profile in emitted
        if made != profile
    }
    assert "integer-type" in wrong["ort-x86", "tensorrt"]
    assert "float-bias" in wrong["ort-arm", "tensorrt"]
    assert wrong["ort-arm", "ort-x86"] == wrong["ort-x86", "ort-arm"] == {"activation-type"}
    assert "activation-type" in wrong["tensorrt", "ort-x86"]
    assert wrong["tensorrt", "fp32"] >= {"no-integers", "one-float"}
    assert wrong["fp32", "tensorrt"] == set()  # a float file runs there


def test_the_runtimes_own_quantizers_file_is_judged(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """ONNX Runtime's static quantizer: right for itself on x86, with zero points and int32 biases for TensorRT."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    from compress.exporting.canonical import split
    from compress.exporting.torch_onnx import save

    proto, _, x = canonical_graph("mobile", symmetric=False, weight_bits=7)
    save(split(proto)[0], tmp_path / "float.onnx")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"input": x.numpy()}])

        def get_next(self):  # type: ignore[no-untyped-def]
            return next(self.left, None)

    quantize_static(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader(), per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    model = onnx.load(tmp_path / "int8.onnx")
    assert [finding for finding in lint(model, "ort-x86") if finding.severity == "error"] == []
    refused = {finding.rule for finding in lint(model, "tensorrt") if finding.severity == "error"}
    assert refused == {"zero-point", "integer-type", "float-bias"}
