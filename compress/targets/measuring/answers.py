"""A model's answers for given inputs."""

from __future__ import annotations

from typing import Any

from compress.targets.measuring.axes import fixed_batch, input_shapes
from compress.targets.measuring.errors import RequestError, running

IGNORED = -100
"""The target of a token that does not count."""


def answers(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Run all examples of `inputs` (input name -> .npy file) in batches; write the first output into `output`.

    `lengths` (input name -> .npy file of whole numbers), where given, says how much of an input's second axis each
    example fills: batches are cut to their longest. With `condense: tokens` outputs are logits (examples, tokens,
    vocabulary) of which `condensed_tokens` is written, by the right tokens in the file `targets`.
    """
    import numpy

    arrays = {name: numpy.load(path, mmap_mode="r") for name, path in request["inputs"].items()}
    lengths = {name: numpy.load(path) for name, path in request.get("lengths", {}).items()}
    targets = numpy.load(request["targets"], mmap_mode="r") if request.get("condense") == "tokens" else None
    there = [item.name for item in session.get_inputs()]
    if sorted(there) != sorted(arrays):
        raise RequestError("run", f"its inputs are {', '.join(there)}, but values were given for {', '.join(arrays)}")
    count = len(next(iter(arrays.values())))
    shapes = input_shapes(session)
    bound = fixed_batch(shapes, {})
    batch = request["batch"] if bound is None else bound
    name, result = session.get_outputs()[0].name, None
    for start in range(0, count, batch):
        size = min(batch, count - start)
        positions = numpy.minimum(numpy.arange(start, start + (size if bound is None else batch)), count - 1)
        feeds = {key: cut(array[positions], lengths.get(key), positions) for key, array in arrays.items()}
        cuts = {key: values.shape for key, values in feeds.items()}
        feeds = {key: filled(values, shapes[key], key in lengths) for key, values in feeds.items()}
        lengthened = any(values.shape != cuts[key] for key, values in feeds.items())
        with running(feeds):
            output = session.run([name], feeds)[0]
        if output.ndim == 0 or len(output) != len(positions):
            raise RequestError(
                "run", f"its output '{name}' has shape {list(output.shape)} for {len(positions)} examples"
            )
        if targets is not None:
            given = output[:, : targets.shape[1]] if lengthened else output
            output = condensed_tokens(given, targets[positions], name)
        if result is None:
            rest = output.shape[1:] if targets is None else (targets.shape[1], *output.shape[2:])
            result = numpy.lib.format.open_memmap(request["output"], "w+", output.dtype, (count, *rest))
        place = (slice(start, start + size), *([slice(0, output.shape[1])] if targets is not None else []))
        result[place] = output[:size]
    if result is not None:
        result.flush()
    return {"output": name, "examples": count}


def cut(values: Any, lengths: Any, positions: Any) -> Any:
    """One batch of an input, contiguous, without columns that no example of the batch fills."""
    import numpy

    return numpy.ascontiguousarray(values if lengths is None else values[:, : max(1, int(lengths[positions].max()))])


def filled(values: Any, shape: list[Any], ragged: bool) -> Any:
    """One batch of rows of unlike lengths, with zeros up to the length that the model's input has, if it is fixed."""
    import numpy

    missing = shape[1] - values.shape[1] if ragged and len(shape) == 2 and isinstance(shape[1], int) else 0
    return numpy.pad(values, ((0, 0), (0, missing))) if missing > 0 else values


def condensed_tokens(logits: Any, targets: Any, name: str) -> Any:
    """What `compress.tasks.tokens` keeps of logits (N, T, V), for right tokens (N, T or more; -100: does not count).

    (N, T, 4) of float32: the token with the largest logit, the negative log-likelihood of the right one in nats,
    whether it counts, and whether the largest was right; zeros where it does not count.
    """
    import numpy

    if logits.ndim != 3 or logits.shape[1] > targets.shape[1]:
        raise RequestError("run", f"its output '{name}' has shape {list(logits.shape)}, and not one row for each token")
    right = targets[:, : logits.shape[1]]
    result = numpy.zeros((*right.shape, 4), dtype=numpy.float32)
    for example, wanted in enumerate(right):
        counted = numpy.flatnonzero(wanted != IGNORED)
        if not len(counted):
            continue
        values, token = logits[example, counted].astype(numpy.float32), wanted[counted]
        largest, chosen = values.max(axis=1), values.argmax(axis=1)
        scale = numpy.log(numpy.exp(values - largest[:, None]).sum(axis=1, dtype=numpy.float64))
        nll = largest + scale - values[numpy.arange(len(token)), token]
        result[example, counted] = numpy.stack([chosen, nll, numpy.ones(len(token)), chosen == token], axis=1)
    return result
