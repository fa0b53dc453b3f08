"""Reads arrays from an untrusted pickle without running its code.

A pickle is a program that calls the functions it names. Here the few names that lists, dicts, numpy
arrays and torch tensors need are replaced by stand-ins that only record their arguments; every
other name is rejected. Plain code then builds the arrays from the records and checks all sizes
against the bytes that the pickle holds.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

MOST_BYTES = 1 << 32
GROWTH = 64  # values, and bytes of arrays, that each byte of a pickle may unpack to
_DAMAGE = (
    *(
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
    ),
    *(MemoryError, RecursionError, RuntimeError, AssertionError, ImportError),
)


class Refused(ValueError):
    """The pickle needs something that is not allowed, or its parts do not fit together."""


class _Note:
    """A call that a pickle makes: the name, the arguments, and the state it set."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _noting(name: str) -> Callable[..., _Note]:
    return lambda *arguments: _Note(name, *arguments)


_ARRAY, _BUFFER, _SCALAR, _DTYPE, _ENCODE, _BYTES, _TENSOR, _STORAGE = (
    _noting(name)
    for name in ("array", "buffer", "scalar", "dtype", "encode", "bytes", "tensor", "storage")
)
_NAMES: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _ARRAY for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
    ("numpy", "ndarray"): "numpy.ndarray",  # used only as an argument; a str cannot be called
    ("numpy", "dtype"): _DTYPE,
    **{(f"numpy.{core}.numeric", "_frombuffer"): _BUFFER for core in ("core", "_core")},
    ("_codecs", "encode"): _ENCODE,
    **{
        (module, "bytes"): _BYTES for module in ("builtins", "__builtin__")
    },  # without arguments, for an empty array
    ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
    ("torch.storage", "_load_from_bytes"): _STORAGE,
    ("collections", "OrderedDict"): dict,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise Refused(
                f"loading it would call {module}.{name}, which could run arbitrary code, so it was "
                "not loaded"
            )
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to data in another file")


def read_pickle(data: bytes) -> Any:
    """The lists, tuples, dicts, texts, numbers and numpy arrays of a pickle; tensors become arrays.
    Raises Refused if it needs anything else, is damaged, or would unpack to much more memory."""
    if len(data) > MOST_BYTES:
        raise Refused(f"it is larger than {MOST_BYTES >> 30} GiB")
    try:
        # Python's unpickler allocates memory up to the highest object number in a pickle, before
        # it checks that there are so many objects.
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
                raise Refused("it refers to more objects than it contains")
        return _plain(_Reader(io.BytesIO(data), encoding="latin1").load(), [GROWTH * len(data)])
    except Refused:
        raise
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [""])[0]
        raise Refused(f"it is damaged: {type(error).__name__} {reason}".strip()) from None


def _plain(value: Any, left: list[int]) -> Any:
    """The value with all notes resolved. left: how many values may still follow, because lists can
    refer to the same list many times."""
    left[0] -= 1
    if left[0] < 0:
        raise Refused("its unpacked data would be much larger than the file")
    if isinstance(value, list | tuple):
        return [_plain(item, left) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str | int) for key in value):
            raise Refused("the keys of its dicts must be strings or whole numbers")
        return {key: _plain(item, left) for key, item in value.items()}
    if isinstance(value, _Note):
        builders = {
            "array": _array,
            "buffer": _from_buffer,
            "scalar": _scalar,
            "tensor": _tensor,
            "encode": _encoded,
        }
        built = builders.get(value.name, _unexpected)(value)
        if isinstance(built, np.ndarray):
            left[0] -= built.nbytes
        return _plain(built, left) if isinstance(built, list) else built
    if value is None or isinstance(value, str | bytes | int | float | bool):
        return value
    raise Refused(
        f"it contains a {type(value).__name__}, but only lists, dicts, texts, numbers and arrays "
        "are allowed"
    )


def _unexpected(note: _Note) -> Any:
    raise Refused(f"it contains a {note.name} where numbers were expected")


def _encoded(note: _Note) -> bytes:
    text, coding = note.arguments
    if coding != "latin1" or not isinstance(text, str):
        raise Refused("it is damaged: the data of an array must be a string encoded as latin1")
    return text.encode("latin1")


def _bytes(value: Any) -> bytes:
    value = _encoded(value) if isinstance(value, _Note) and value.name == "encode" else value
    value = value.encode("latin1") if isinstance(value, str) else value
    value = (
        b"" if isinstance(value, _Note) and value.name == "bytes" and not value.arguments else value
    )
    if not isinstance(value, bytes | bytearray):
        raise Refused(
            f"it is damaged: the data of an array must be bytes (got {type(value).__name__})"
        )
    return bytes(value)


def _dtype(note: Any) -> np.dtype | None:
    """The type of an array's numbers, in any byte order; None for objects."""
    if not isinstance(note, _Note) or note.name != "dtype" or not note.arguments:
        raise Refused("it is damaged: an array has no data type")
    code = note.arguments[0]
    code = code.decode("latin1") if isinstance(code, bytes) else code
    order = note.state[1] if isinstance(note.state, tuple) and len(note.state) > 1 else "="
    order = order.decode("latin1") if isinstance(order, bytes) else order
    if code in ("O8", "O"):
        return None
    if code not in (
        "f2",
        "f4",
        "f8",
        "i1",
        "i2",
        "i4",
        "i8",
        "u1",
        "u2",
        "u4",
        "u8",
        "b1",
    ) or order not in (
        "<",
        ">",
        "=",
        "|",
    ):
        raise Refused(f"an array must contain numbers (got type {code!r})")
    return np.dtype(code if order == "|" else order + code)


def _array(note: _Note) -> Any:
    if not isinstance(note.state, tuple) or len(note.state) != 5:
        raise Refused("it is damaged: the state of an array must have 5 parts, as numpy saves it")
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
        raise Refused(
            "it is damaged: the shape of an array must be at most 8 whole numbers of 0 or more"
        )
    dtype = _dtype(dtype_note)
    if dtype is None:
        if not isinstance(data, list) or len(data) != math.prod(shape):
            given = len(data) if isinstance(data, list) else type(data).__name__
            raise Refused(
                f"it is damaged: an array must have {math.prod(shape)} objects (got {given})"
            )
        return _nested(data, shape)
    data = _bytes(data)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise Refused(
            f"it is damaged: an array of {math.prod(shape)} {dtype} numbers must have "
            f"{math.prod(shape) * dtype.itemsize} bytes (got {len(data)})"
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F" if in_fortran_order else "C").copy()


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) < 2:
        return values if shape else values[0]
    if 0 in shape:  # no bytes are needed for any number of lists of length 0
        raise Refused("an array of objects is empty")
    step = math.prod(shape[1:])
    return [_nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _scalar(note: _Note) -> Any:
    dtype, data = _dtype(note.arguments[0]), _bytes(note.arguments[1])
    if dtype is None:
        raise Refused("it contains an object instead of a number")
    if len(data) != dtype.itemsize:
        raise Refused(
            f"it is damaged: a {dtype} number has {len(data)} bytes instead of {dtype.itemsize}"
        )
    return np.frombuffer(data, dtype)[0].item()


def _are_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(side) is int and side >= 0 for side in value)


def _tensor(note: _Note) -> np.ndarray:
    storage, offset, size, stride = note.arguments[:4]
    if not isinstance(storage, _Note) or storage.name != "storage":
        raise Refused("a tensor has no data")
    data = _bytes(storage.arguments[0])
    if data.startswith(
        b"PK"
    ):  # torch does not write a zip here, and one may unpack to a thousand times its size
        raise Refused("the data of a tensor is compressed")
    import torch  # loading it takes a second, and most files contain no tensor

    numbers = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(
        numbers, torch.storage.TypedStorage
    ) or not numbers.dtype.is_floating_point | (numbers.dtype == torch.int64):
        raise Refused("a tensor must hold floating-point or int64 numbers")
    flat = torch.tensor([], dtype=numbers.dtype).set_(numbers)
    if not _are_sizes(size) or not _are_sizes(stride) or len(size) != len(stride):
        raise Refused(
            "it is damaged: a tensor must have one size and one stride per dimension, each at "
            "least 0"
        )
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if (
        type(offset) is not int
        or offset < 0
        or math.prod(size) > len(flat)
        or (math.prod(size) and last >= len(flat))
    ):
        raise Refused("it is damaged: a tensor is larger than its data")
    return flat.as_strided(size, stride, offset).clone().numpy()
