"""Arrays out of a pickle from elsewhere, without running it.

A pickle is a program: what it names, it calls. Here the few names that lists, dicts, numpy arrays and torch tensors need give
stand-ins that only note what they were called with; every other name is refused. Arrays are then built from the notes by plain
code, which checks sizes against the bytes that are there.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

MOST_BYTES = 1 << 32
GROWTH = 64  # values and bytes of arrays that may come of each byte
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(MemoryError, RecursionError, RuntimeError, AssertionError, ImportError),
)


class Refused(ValueError):
    """The pickle asks for something that is not there to be had, or its parts do not fit together."""


class _Note:
    """What a pickle called, with what, and the state it set."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _noting(name: str) -> Callable[..., _Note]:
    return lambda *arguments: _Note(name, *arguments)


_ARRAY, _BUFFER, _SCALAR, _DTYPE, _ENCODE, _BYTES, _TENSOR, _STORAGE = (
    _noting(name) for name in ("array", "buffer", "scalar", "dtype", "encode", "bytes", "tensor", "storage")
)
_NAMES: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _ARRAY for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
    ("numpy", "ndarray"): "numpy.ndarray",  # only ever an argument; a text cannot be called
    ("numpy", "dtype"): _DTYPE,
    **{(f"numpy.{core}.numeric", "_frombuffer"): _BUFFER for core in ("core", "_core")},
    ("_codecs", "encode"): _ENCODE,
    **{(module, "bytes"): _BYTES for module in ("builtins", "__builtin__")},  # of nothing: an empty array's
    ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
    ("torch.storage", "_load_from_bytes"): _STORAGE,
    ("collections", "OrderedDict"): dict,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise Refused(f"it asks for {module}.{name}, which could run code; nothing of it was run")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to another file")


def read_pickle(data: bytes) -> Any:
    """Lists, tuples, dicts, texts, numbers and numpy arrays (tensors too become arrays) of a pickle. Raises Refused for one
    that asks for anything else, is damaged, or would grow much larger than it is."""
    if len(data) > MOST_BYTES:
        raise Refused(f"it is larger than {MOST_BYTES >> 30} GiB")
    try:
        # Python's unpickler takes memory for as many objects as a pickle numbers, before it looks whether they are there.
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
                raise Refused("it numbers more objects than it has")
        return _plain(_Reader(io.BytesIO(data), encoding="latin1").load(), [GROWTH * len(data)])
    except Refused:
        raise
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [""])[0]
        raise Refused(f"it is damaged: {type(error).__name__} {reason}".strip()) from None


def _plain(value: Any, left: list[int]) -> Any:
    """The value without notes. left: how many values may still come, since lists may name lists many times over."""
    left[0] -= 1
    if left[0] < 0:
        raise Refused("it would grow much larger than it is")
    if isinstance(value, list | tuple):
        return [_plain(one, left) for one in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str | int) for key in value):
            raise Refused("it has a dict whose keys are no texts")
        return {key: _plain(one, left) for key, one in value.items()}
    if isinstance(value, _Note):
        made = {"array": _array, "buffer": _from_buffer, "scalar": _scalar, "tensor": _tensor, "encode": _encoded}
        built = made.get(value.name, _nothing)(value)
        if isinstance(built, np.ndarray):
            left[0] -= built.nbytes
        return _plain(built, left) if isinstance(built, list) else built
    if value is None or isinstance(value, str | bytes | int | float | bool):
        return value
    raise Refused(f"it holds a {type(value).__name__}")


def _nothing(note: _Note) -> Any:
    raise Refused(f"it holds a {note.name} where there should be numbers")


def _encoded(note: _Note) -> bytes:
    text, coding = note.arguments
    if coding != "latin1" or not isinstance(text, str):
        raise Refused("it encodes text in another way than numpy does")
    return text.encode("latin1")


def _bytes(value: Any) -> bytes:
    value = _encoded(value) if isinstance(value, _Note) and value.name == "encode" else value
    value = value.encode("latin1") if isinstance(value, str) else value
    value = b"" if isinstance(value, _Note) and value.name == "bytes" and not value.arguments else value
    if not isinstance(value, bytes | bytearray):
        raise Refused("an array's numbers are not there as bytes")
    return bytes(value)


def _dtype(note: Any) -> np.dtype | None:
    """The type of an array's numbers, native or not; None for objects."""
    if not isinstance(note, _Note) or note.name != "dtype" or not note.arguments:
        raise Refused("an array has no type")
    code = note.arguments[0]
    code = code.decode("latin1") if isinstance(code, bytes) else code
    order = note.state[1] if isinstance(note.state, tuple) and len(note.state) > 1 else "="
    order = order.decode("latin1") if isinstance(order, bytes) else order
    if code in ("O8", "O"):
        return None
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1") or order not in (
        "<",
        ">",
        "=",
        "|",
    ):
        raise Refused(f"an array is of type {code!r}, not of numbers")
    return np.dtype(code if order == "|" else order + code)


def _array(note: _Note) -> Any:
    if not isinstance(note.state, tuple) or len(note.state) != 5:
        raise Refused("an array's state is not numpy's")
    _, shape, dtype_note, in_fortran_order, data = note.state
    return _built(shape, dtype_note, in_fortran_order is True, data)


def _from_buffer(note: _Note) -> Any:
    data, dtype_note, shape, order = note.arguments
    return _built(shape, dtype_note, order == "F", data)


def _built(shape: Any, dtype_note: Any, in_fortran_order: bool, data: Any) -> Any:
    if (
        not isinstance(shape, tuple)
        or not all(type(side) is int and 0 <= side <= MOST_BYTES for side in shape)
        or len(shape) > 8
    ):
        raise Refused("an array has no shape")
    dtype = _dtype(dtype_note)
    if dtype is None:
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise Refused("an array of objects is not whole")
        return _nested(data, shape)
    data = _bytes(data)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise Refused(f"an array of {math.prod(shape)} numbers has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if in_fortran_order else "C").copy()


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) < 2:
        return values if shape else values[0]
    if 0 in shape:  # of a side of 0 no byte is needed to ask for any number of lists
        raise Refused("an array of objects is empty")
    step = math.prod(shape[1:])
    return [_nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _scalar(note: _Note) -> Any:
    dtype, data = _dtype(note.arguments[0]), _bytes(note.arguments[1])
    if dtype is None or len(data) != dtype.itemsize:
        raise Refused("a number is not whole")
    return np.frombuffer(data, dtype)[0].item()


def _tensor(note: _Note) -> np.ndarray:
    storage, offset, size, stride = note.arguments[:4]
    if not isinstance(storage, _Note) or storage.name != "storage":
        raise Refused("a tensor has no numbers")
    data = _bytes(storage.arguments[0])
    if data.startswith(b"PK"):  # torch itself writes none; a packed one may hold a thousand times its size
        raise Refused("a tensor's numbers are packed")
    numbers = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(numbers, torch.storage.TypedStorage) or not numbers.dtype.is_floating_point | (
        numbers.dtype == torch.int64
    ):
        raise Refused("a tensor is not of numbers")
    flat = torch.tensor([], dtype=numbers.dtype).set_(numbers)
    sides = (size, stride)
    if not all(isinstance(one, tuple) and all(type(n) is int and n >= 0 for n in one) for one in sides) or len(size) != len(
        stride
    ):
        raise Refused("a tensor has no shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if type(offset) is not int or offset < 0 or math.prod(size) > len(flat) or (math.prod(size) and last >= len(flat)):
        raise Refused("a tensor reaches beyond its numbers")
    return flat.as_strided(size, stride, offset).clone().numpy()
