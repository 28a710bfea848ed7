"""For each rule of each profile a graph that breaks it, in ONNX's own text form, and the operator that does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import ModelProto

U8 = "uint8 z = {0}"
S8 = "int8 z = {0}"
WEIGHTS = "int8 wz = {0}, float ws = {0.5}, int8[2,2,1,1] w = {1, 2, 3, 4}"
SCALES = "float s = {0.1}, float t = {0.2}"
X = "float[1,2,4,4] x"
Y = "float[n,c,h,v] y"


@dataclass(frozen=True)
class Case:
    """A graph that breaks a rule at `node`; `text` is what follows the opset."""

    text: str
    node: str
    opset: int = 19
    domains: str = ""

    def model(self) -> ModelProto:
        """The graph, valid but for the rule."""
        head = f'<ir_version: 10, opset_import: ["" : {self.opset}{self.domains}]>'
        model = onnx.parser.parse_model(f"{head}\n{self.text}")
        onnx.checker.check_model(model)
        return model


def graph(body: str, constants: str = f"{S8}, {SCALES}, {WEIGHTS}", ends: str = f"({X}) => ({Y})") -> str:
    return f"g {ends} <{constants}> {{\n{body}\n}}"


def integer(zero_point: str, body: str, constants: str = "") -> str:
    """A graph of an int8 input `xd` and int8 weights `wd`."""
    start = "[x_quantize] xq = QuantizeLinear(x, s, z)\n[x_dequantize] xd = DequantizeLinear(xq, s, z)\n"
    start += "[weights] wd = DequantizeLinear(w, ws, wz)\n"
    more = f", {constants}" if constants else ""
    return graph(start + body, f"{zero_point}, {SCALES}, {WEIGHTS}{more}")


CONV = "[conv] c = Conv<kernel_shape=[1,1]>(xd, wd)\n"
PAIR = "[q] cq = QuantizeLinear(c, t, z)\n[d] y = DequantizeLinear(cq, t, z)"
ROUND = "[q] q = QuantizeLinear(x, s, z)\n[d] y = DequantizeLinear(q, s, z)"
READ = "q = QuantizeLinear(x, s, z)\nd = DequantizeLinear(q, s, z)\n"
WRITE = "rq = QuantizeLinear(r, t, z)\ny = DequantizeLinear(rq, t, z)"
ONES = "float[2,2,1,1] f = {1.0, 1.0, 1.0, 1.0}"
DOUBLE_SCALE = "float[2] ss = {0.1, 0.2}, int8[2] sz = {0, 0}"

MICROSOFT = ', "com.microsoft" : 1'


def product(
    *,
    size: int = 16,
    scale: str = "1.0",
    attributes: str = "accuracy_level=4",
    bits: int = 4,
    more: str = "",
    given: str = "",
    integers: str = "uint8[2,1,8]",
) -> str:
    """A product with 2 outputs of 16 inputs, in one block."""
    count = math.prod(map(int, integers.partition("[")[2].rstrip("]").split(",")))
    constants = f"{integers} w = {{{', '.join(['1'] * count)}}}, float[2,1] s = {{1.0, {scale}}}{more}"
    sizes = f"K=16, N=2, bits={bits}, block_size={size}, {attributes}"
    body = f"[product] y = com.microsoft.MatMulNBits<{sizes}>(x, w, s{given})"
    return graph(body, constants, "(float[1,16] x) => (float[1,2] y)")


def integers(body: str, weights: str = "int8[2,2] w = {1, 2, 3, 4}", zero_point: str = "int8 wz = {0}") -> str:
    """A product of integers that come from q, a, b."""
    return graph(
        body + "\ny = Cast<to=1>(i)", f"{weights}, {zero_point}, uint8 u = {{1}}, {SCALES}",
        "(float[1,2] x) => (float[1,2] y)",
    )  # fmt: skip


DYNAMIC = "q, a, b = DynamicQuantizeLinear(x)\n"

CASES: dict[str, Case] = {
    "foreign-domain": Case(
        graph("[odd] y = my.domain.Odd(x)", S8), "odd", domains=', "my.domain" : 1'
    ),
    "function": Case(
        graph("[call] y = local.Twice(x)", S8) + '\n<domain: "local", opset_import: ["" : 19]>\nTwice (a) => (b) '
        "{ b = Add(a, a) }",
        "Twice", domains=', "local" : 1',
    ),
    "finite-weights": Case(
        graph("[conv] y = Conv<kernel_shape=[1,1]>(x, f)", "float[1,2,1,1] f = {1.0, inf}"), "conv"
    ),
    "absolute-path": Case(graph("[relu] y = Relu(x)", S8), "relu"),
    "positive-scale": Case(graph(ROUND, f"{S8}, float s = {{0.0}}"), "q"),
    "equal-pair": Case(graph("[q] q = QuantizeLinear(x, s, z)\n[d] y = DequantizeLinear(q, t, z)"), "d"),
    "weight-axis": Case(
        graph(
            READ + "wd = DequantizeLinear<axis=1>(w, ss, sz)\n"
            "[conv] y = Conv<kernel_shape=[1,1]>(d, wd)", f"{S8}, {SCALES}, {DOUBLE_SCALE}, {WEIGHTS}",
        ),
        "conv",
    ),
    "activation-per-tensor": Case(
        graph("[q] q = QuantizeLinear(x, ss, sz)\ny = DequantizeLinear(q, ss, sz)", DOUBLE_SCALE), "q"
    ),
    "integer-operator": Case(
        graph("[dynamic] q, a, b = DynamicQuantizeLinear(x)\ny = DequantizeLinear(q, a, b)", S8), "dynamic"
    ),
    "constant-scale": Case(
        graph("m = ReduceMax<keepdims=0>(x)\n[q] q = QuantizeLinear(x, m, z)\ny = DequantizeLinear(q, m, z)"), "q"
    ),
    # ONNX Runtime
    "weight-type": Case(
        integer(U8, "ud = DequantizeLinear(u, ws, z)\n[conv] c = Conv<kernel_shape=[1,1]>(xd, ud)\n" + PAIR,
                "uint8[2,2,1,1] u = {1, 2, 3, 4}"),
        "conv",
    ),
    "bias-scale": Case(
        integer(U8, "[bias] bd = DequantizeLinear(b, bs, bz)\n[conv] c = Conv<kernel_shape=[1,1]>(xd, wd, bd)\n" + PAIR,
                "int32[2] b = {1, 2}, float bs = {0.06}, int32 bz = {0}"),
        "conv",
    ),
    "float-weights": Case(
        integer(U8, "[conv] c = Conv<kernel_shape=[1,1]>(xd, f)\n" + PAIR, ONES),
        "conv",
    ),
    "one-reader": Case(
        integer(U8, CONV + "[q] cq = QuantizeLinear(c, t, z)\n[d] a = DequantizeLinear(cq, t, z)\ny = Add(a, xd)"),
        "x_dequantize",
    ),
    "quantized-output": Case(integer(U8, "[conv] c = Conv<kernel_shape=[1,1]>(xd, wd)\ny = Sigmoid(c)"), "conv"),
    "foldable-rectifier": Case(
        integer("uint8 z = {128}", CONV + "[relu] r = Relu(c)\ncq = QuantizeLinear(r, t, z)\n"
                "y = DequantizeLinear(cq, t, z)"),
        "relu",
    ),
    "same-scale": Case(
        graph(READ + "[pool] r = MaxPool<kernel_shape=[2,2]>(d)\n" + WRITE), "pool"
    ),
    "mean-pool": Case(
        graph(READ + "[mean] m = ReduceMean(d, a)\n"
              "mq = QuantizeLinear(m, t, z)\ny = DequantizeLinear(mq, t, z)",
              f"{S8}, {SCALES}, int64[2] a = {{2, 3}}"),
        "mean",
    ),
    "activation-type": Case(
        graph(ROUND, f"int16 z = {{0}}, {SCALES}"),
        "q", opset=21,
    ),
    "seven-bits": Case(
        integer(U8, "vd = DequantizeLinear(v, ws, wz)\n[conv] c = Conv<kernel_shape=[1,1]>(xd, vd)\n" + PAIR,
                "int8[2,2,1,1] v = {1, -64, 63, 64}"),
        "conv",
    ),
    # TensorRT
    "opset": Case(graph("y = Relu(x)", S8), "the file", opset=8),
    "zero-point": Case(graph(ROUND, f"int8 z = {{1}}, {SCALES}"), "q"),
    "integer-type": Case(graph(ROUND, f"{U8}, {SCALES}"), "q"),
    "float-bias": Case(
        integer(S8, "[bias] bd = DequantizeLinear(b, s, bz)\n[conv] y = Conv<kernel_shape=[1,1]>(xd, wd, bd)",
                "int32[2] b = {1, 2}, int32 bz = {0}"),
        "bias",
    ),
    "half-quantized": Case(integer(S8, "[conv] y = Conv<kernel_shape=[1,1]>(x, wd)"), "conv"),
    "kernel-shape": Case(integer(S8, "[conv] y = Conv(xd, wd)"), "conv"),
    "float64": Case(graph("[wide] d = Cast<to=11>(x)\ny = Cast<to=1>(d)", S8), "wide"),
    "weight-per-channel": Case(integer(S8, "[conv] y = Conv<kernel_shape=[1,1]>(xd, wd)"), "conv"),
    "output-for-float": Case(
        integer(S8, CONV + "r = Relu(c)\n[q] q = QuantizeLinear(r, t, z)\nd = DequantizeLinear(q, t, z)\ny = Exp(d)"),
        "q",
    ),
    "residual": Case(
        integer(S8, CONV + "q = QuantizeLinear(c, t, z)\nd = DequantizeLinear(q, t, z)\n[add] y = Add(d, xd)"), "add"
    ),
    "quantized-once": Case(
        graph(READ + "[again] q2 = QuantizeLinear(x, s, z)\n"
              "d2 = DequantizeLinear(q2, s, z)\ny = Add(d, d2)"),
        "again",
    ),
    # Float files
    "no-integers": Case(graph(ROUND), "q"),
    "one-float": Case(graph("[wide] d = Cast<to=11>(x)\ny = Cast<to=1>(d)", S8), "wide"),
    "defined-type": Case(
        graph("h = Cast<to=16>(x)\nk = Cast<to=16>(f)\n[conv] c = Conv<kernel_shape=[1,1]>(h, k)\ny = Cast<to=1>(c)",
              ONES),
        "conv", opset=18,
    ),
    "wide-ends": Case(graph("y = Relu(x)", S8, "(float16[2] x) => (float16[2] y)"), "x"),
    "wide-weights": Case(graph("[conv] y = Conv<kernel_shape=[1,1]>(x, f)", ONES), "conv", opset=22),
    # Without calibration
    "of-its-kind": Case(graph("y = Relu(x)", S8), "the file"),
    "dynamic-input": Case(
        integers("q = QuantizeLinear(x, s, u)\n[product] i = MatMulInteger(q, w, u, wz)"), "product"
    ),
    "integer-weights": Case(
        integers(DYNAMIC + "[product] i = MatMulInteger(q, w, b)", "uint8[2,2] w = {1, 2, 3, 4}"), "product"
    ),
    "microsoft-opset": Case(product(), "the file", domains=', "com.microsoft" : 2'),
    "bits": Case(product(bits=2, integers="uint8[2,1,4]"), "product", domains=MICROSOFT),
    "block-size": Case(product(size=24, integers="uint8[2,1,12]"), "product", domains=MICROSOFT),
    "packed-shape": Case(product(integers="uint8[2,1,9]"), "product", domains=MICROSOFT),
    "block-scale": Case(product(scale="0.0"), "product", domains=MICROSOFT),
    "int8-level": Case(product(attributes="accuracy_level=0"), "product", domains=MICROSOFT),
}  # fmt: skip
"""Rule -> a case that serves every profile which has the rule."""

OTHER_CASES: dict[tuple[str, str], list[Case]] = {
    ("tensorrt", "integer-operator"): [
        Case(
            graph("q = QuantizeLinear(x, s, z)\n[product] i = ConvInteger(q, w)\ny = Cast<to=1>(i)"), "product"
        ),
        Case(
            graph("q = QuantizeLinear(x, s, z)\n[conv] i = QLinearConv(q, s, z, w, ws, wz, t, z)\n"
                  "y = DequantizeLinear(i, t, z)"),
            "conv",
        ),
        Case(
            graph("q = QuantizeLinear(x, s, z)\n[product] i = MatMulInteger(q, k)\ny = Cast<to=1>(i)",
                  f"{S8}, {SCALES}, int8[4,4] k = {{" + ", ".join(["1"] * 16) + "}"),
            "product",
        ),
    ],
    ("tensorrt", "foreign-domain"): [
        Case(graph("[gelu] y = com.microsoft.Gelu(x)", S8), "gelu", domains=', "com.microsoft" : 1')
    ],
    ("tensorrt", "integer-type"): [
        Case(graph("[q] q = QuantizeLinear(x, s)\ny = DequantizeLinear(q, s)", SCALES), "q")  # uint8 by default
    ],
    ("tensorrt", "positive-scale"): [
        Case(graph(ROUND, f"{S8}, float s = {{{number}}}"), "q")
        for number in ("-0.5", "inf", "nan")
    ],
    ("tensorrt", "residual"): [
        Case(integer(S8, CONV + "e = Exp(x)\n[add] y = Add(c, e)"), "add"),
    ],
    ("tensorrt", "same-scale"): [
        Case(
            graph(READ + "e = Exp(x)\n"
                  "[join] j = Concat<axis=1>(d, e)\njq = QuantizeLinear(j, s, z)\ny = DequantizeLinear(jq, s, z)"),
            "join",
        ),
        Case(
            graph(READ + '[grow] r = Resize<mode="nearest">(d, , k)\n' + WRITE,
                  f"{S8}, {SCALES}, float[4] k = {{1.0, 1.0, 2.0, 2.0}}"),
            "grow",
        ),
    ],
    ("tensorrt", "half-quantized"): [
        Case(integer(S8, "[conv] y = Conv<kernel_shape=[1,1]>(xd, f)", ONES), "conv")
    ],
    ("tensorrt", "kernel-shape"): [Case(graph("[up] y = ConvTranspose(x, f)", "float[2,1,1,1] f = {1.0, 2.0}"), "up")],
    ("tensorrt", "weight-axis"): [
        Case(
            graph(
                READ + f"kd = DequantizeLinear<axis=0>(k, ss, sz)\n[layer] y = {call}",
                f"{S8}, {SCALES}, {DOUBLE_SCALE}, int8[2,2] k = {{1, 2, 3, 4}}",
                "(float[3,2] x) => (float[3,2] y)",
            ),
            "layer",
        )
        for call in ("MatMul(d, kd)", "Gemm(d, kd)")
    ],
    ("ort-x86", "activation-type"): [
        Case(graph(ROUND), "q")
    ],
    ("ort-arm", "activation-type"): [
        Case(graph(ROUND, f"{U8}, {SCALES}"), "q")
    ],
    ("ort-x86", "weight-type"): [
        Case(
            integer(U8, "vd = DequantizeLinear(w, ws, one)\n[conv] c = Conv<kernel_shape=[1,1]>(xd, vd)\n" + PAIR,
                    "int8 one = {1}"),
            "conv",
        )
    ],
    ("ort-x86", "foldable-rectifier"): [
        Case(
            integer(U8, CONV + "[clip] r = Clip(c, low, high)\ncq = QuantizeLinear(r, t, z)\n"
                    "y = DequantizeLinear(cq, t, z)", "float low = {0.0}, float high = {6.0}"),
            "clip",
        )
    ],
    ("ort-x86", "same-scale"): [
        Case(
            graph(READ + "p = QuantizeLinear(x, t, z)\n"
                  "e = DequantizeLinear(p, t, z)\n[join] j = Concat<axis=1>(d, e)\njq = QuantizeLinear(j, s, z)\n"
                  "y = DequantizeLinear(jq, s, z)"),
            "join",
        )
    ],
    ("fp16", "no-integers"): [
        Case(graph("q, a, b = DynamicQuantizeLinear(x)\n[d] y = DequantizeLinear(q, a, b)", S8), "d")
    ],
    ("fp16", "one-float"): [Case(graph("[b] d = Cast<to=16>(x)\ny = Cast<to=1>(d)", S8), "b")],
    ("ort-dynamic", "dynamic-input"): [
        Case(integers(DYNAMIC + "[product] i = MatMulInteger(q, w, u, wz)"), "product")
    ],
    ("ort-dynamic", "integer-weights"): [
        Case(
            integers(DYNAMIC + "[product] i = MatMulInteger(q, w, b, wz)", zero_point="int8 wz = {1}"),
            "product",
        )
    ],
    ("ort-weights4", "block-size"): [
        Case(product(size=8, integers="uint8[2,2,4]"), "product", domains=MICROSOFT)
    ],
    ("ort-weights8", "packed-shape"): [Case(product(bits=8), "product", domains=MICROSOFT)],
    ("ort-weights4", "packed-shape"): [
        Case(product(integers="int8[2,1,8]"), "product", domains=MICROSOFT),
        Case(product(more=", uint8[2,2] z = {1, 1, 1, 1}", given=", z"), "product", domains=MICROSOFT),
    ],
    ("ort-weights4", "block-scale"): [
        Case(product(scale=number), "product", domains=MICROSOFT) for number in ("inf", "nan")
    ],
    ("fp32", "no-integers"): [Case(product(), "product", domains=MICROSOFT)],
    ("fp32", "one-float"): [Case(graph("[h] d = Cast<to=10>(x)\ny = Cast<to=1>(d)", S8), "h")],
}  # fmt: skip
"""(profile, rule) -> more cases."""
