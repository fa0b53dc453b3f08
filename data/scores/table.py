"""Score tables contain the scores of a model for each video, so that models can be evaluated and
fused without the features.

A table is stored as an npz of plain arrays: `video_ids` and `classes` (unicode), `labels` (int64;
uint8 for multi-label data), `logits` (float32), `about` (JSON text), `groups` and `parts` (unicode,
if known) and `format`. Pickle is neither written nor read.
"""

import functools
import io
import json
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.files import check_regular, replacing, sync_folder
from reelbank.data.identity import reject_constant

FORMAT = "reelbank scores 1"
# The parts of a split that a video can be in.
PARTS = ("train", "validation", "test", "none", "unknown")
# What zipfile, numpy's header parser and json raise on bytes that make no sense.
DAMAGE = (
    zlib.error,
    *(OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, tokenize.TokenError, InputError),
)


_TEXTS_AT_ONCE = 1 << 14
# In a npy file of version 1.0, the length of the header is in the last two of these bytes.
_PREFIX_BYTES = 10


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a model for V videos and C classes.

    video_ids: V unique ids. labels: (V,) int64, the index of each video's class in `classes`, or -1
    if unknown; for multi-label data (V, C) uint8, which contains 0 and 1. classes: C unique names.
    logits: (V, C) float32, finite. The probabilities are softmax(logits), or sigmoid(logits) for
    multi-label data. about: where the scores come from (JSON-serialisable): dataset, split, part,
    seed, head, store, signature, coarse categories and others.

    groups: for each video the name of the recording that it was cut from (such as g01 in UCF-101),
    or "" if it does not belong to a group; () if groups are unknown. Videos of one group resemble
    each other, so confidence intervals can be computed by resampling groups instead of videos.

    parts: for each video the part of the split to which it belonged when the model was trained:
    "train", "validation", "test", "none" (the video was not in the split, so the model has not seen
    it) or "unknown". () if the parts of the videos are not recorded separately. If `about["part"]`
    is set, it is the part of all videos.

    Raises InputError if the shapes, types or values of the arrays are wrong.
    """

    video_ids: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    logits: np.ndarray
    about: dict[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids, classes = tuple(map(str, self.video_ids)), tuple(map(str, self.classes))
        groups, parts = tuple(map(str, self.groups)), tuple(map(str, self.parts))
        groups = groups if any(groups) else ()  # all "" means that none is known
        labels = np.asarray(self.labels)
        if labels.size == 0:
            labels = labels.astype(np.int64)
        if labels.dtype.kind not in "iu":
            raise InputError(f"scores: labels must be whole numbers (got {labels.dtype})")
        with np.errstate(over="ignore"):  # values beyond float32 become inf, rejected below
            logits = np.asarray(self.logits).astype(np.float32)
        full_shape = (len(ids), len(classes))
        fits = labels.shape in ((len(ids),), full_shape) and logits.shape == full_shape
        if not fits or not classes:
            raise InputError(
                f"scores: for {len(ids)} video ids and {len(classes)} classes, labels must have "
                f"shape ({len(ids)},) or {full_shape}, and logits {full_shape} (got "
                f"{labels.shape} and {logits.shape})"
            )
        _check_length("groups", groups, ids)
        _check_length("parts", parts, ids)
        _check_parts(parts)
        _check_unique("video id", ids)
        _check_unique("class", classes)
        _check_labels(labels, len(classes))
        _check_finite(logits, ids)
        object.__setattr__(self, "video_ids", ids)
        label_dtype = np.uint8 if labels.ndim == 2 else np.int64
        object.__setattr__(self, "labels", labels.astype(label_dtype))
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "parts", parts)

    @property
    def multilabel(self) -> bool:
        """Whether a video can have any number of classes (multi-label data)."""
        return self.labels.ndim == 2


def _check_length(kind: str, names: tuple[str, ...], ids: tuple[str, ...]) -> None:
    if names and len(names) != len(ids):
        raise InputError(
            f"scores: {kind} must be empty or have one entry for each of the {len(ids)} "
            f"video ids (got {len(names)})"
        )


def _check_parts(parts: tuple[str, ...]) -> None:
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise InputError(
            f"scores: {unknown[0]!r} is not a part of a split; choose from {', '.join(PARTS)}"
        )


def _check_unique(kind: str, names: tuple[str, ...]) -> None:
    if len(set(names)) == len(names):
        return
    repeated = next(name for number, name in enumerate(names) if name in names[:number])
    raise InputError(f"scores: {kind} {repeated!r} occurs more than once")


def _check_labels(labels: np.ndarray, classes: int) -> None:
    if not labels.size:
        return
    lowest, highest = labels.min(), labels.max()
    if labels.ndim == 2 and not (lowest >= 0 and highest <= 1):
        raise InputError(f"scores: multi-label labels must be 0 or 1 (got {lowest} to {highest})")
    if labels.ndim == 1 and not (lowest >= -1 and highest < classes):
        raise InputError(
            f"scores: labels must be class numbers from 0 to {classes - 1}, or -1 if unknown (got "
            f"{lowest} to {highest})"
        )


def _check_finite(logits: np.ndarray, ids: Sequence[str]) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        total = logits.sum()
    if np.isfinite(total):
        return  # because NaN and infinity would remain in the sum
    is_finite = np.isfinite(logits).all(axis=1)  # (V,)
    if not is_finite.all():
        first = ids[int(is_finite.argmin())]
        raise InputError(
            f"scores: all logits must be finite, but those of {(~is_finite).sum()} videos contain "
            f"NaN or infinity; the first of these videos is {first!r}"
        )


def log_probabilities(scores: Scores) -> np.ndarray:
    """log softmax(logits), for multi-label data log sigmoid(logits); (V, C) float64, always
    finite."""
    logits = scores.logits.astype(np.float64)
    return -np.logaddexp(0, -logits) if scores.multilabel else log_softmax(logits)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The logarithm of softmax over classes; (V, C) float64 -> (V, C) float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


class SoftmaxParts(NamedTuple):
    """The parts of a softmax over classes: softmax(logits) is ratios / sums[:, None].

    ratios: (V, C) float64, exp(logit - highest logit), so that of the highest is 1; sums: (V,) float64,
    the sum of a video's ratios.
    """

    ratios: np.ndarray
    sums: np.ndarray


def softmax_parts(logits: np.ndarray, predicted: np.ndarray) -> SoftmaxParts:
    """The parts of softmax(logits), which need a single exponential of each logit; (V, C).
    predicted: (V,) the class number of the highest logit, which callers know already."""
    ratios = logits.astype(np.float64)
    ratios -= np.take_along_axis(ratios, predicted[:, None], axis=1)  # the highest, (V, 1)
    np.exp(ratios, out=ratios)
    return SoftmaxParts(ratios, np.einsum("vc->v", ratios))


def probabilities(scores: Scores) -> np.ndarray:
    """softmax(logits), whose rows sum to 1, for multi-label data sigmoid(logits); (V, C)
    float64."""
    return np.exp(log_probabilities(scores))


def save(scores: Scores, path: str | Path) -> None:
    """Write the table to `path` (an npz). A reader finds the old file or the complete new one."""
    path = Path(path)
    arrays = _arrays(scores) | {"logits": scores.logits}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    sync_folder(path.parent)


class Facts(Protocol):
    """What a score table contains in addition to the scores; see `Scores`."""

    @property
    def video_ids(self) -> Sequence[str]: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def about(self) -> Mapping[str, Any]: ...
    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def parts(self) -> Sequence[str]: ...


def _arrays(facts: Facts) -> dict[str, np.ndarray]:
    """The arrays of the file without the logits."""
    texts = _texts(facts)
    arrays = {
        "format": np.array(FORMAT),
        "video_ids": np.array(texts.pop("video_ids"), dtype=np.str_),
        "labels": facts.labels,
        "classes": np.array(facts.classes, dtype=np.str_),
        "about": np.array(json.dumps(facts.about, allow_nan=False)),
    }
    return arrays | {name: np.array(each, dtype=np.str_) for name, each in texts.items()}


def _texts(facts: Facts) -> dict[str, Sequence[str]]:
    """The arrays with a text for each video."""
    texts = {"video_ids": facts.video_ids}
    if any(facts.groups):
        texts["groups"] = facts.groups
    if facts.parts:
        texts["parts"] = facts.parts
    return texts


@dataclass(frozen=True)
class TableFacts:
    """The `Facts` of a table whose logits are not in memory."""

    video_ids: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    about: Mapping[str, Any] = field(default_factory=dict)
    groups: Sequence[str] = ()
    parts: Sequence[str] = ()


def save_in_pieces(
    path: str | Path,
    video_ids: Sequence[str],
    classes: int,
    pieces: Iterable[np.ndarray],
    facts: Callable[[], Facts],
) -> None:
    """Write a table that need not fit in memory, as `save` does. pieces: the logits (n, C) float32
    of one range of videos after another; facts: what the table contains in addition, which may be
    known only after the last piece. Raises InputError for logits that are not finite."""
    path, written = Path(path), 0
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        _add(archive, "format", np.array(FORMAT))  # first, because it is how files are recognised
        with archive.open("logits.npy", "w", force_zip64=True) as member:
            shape = (len(video_ids), classes)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for piece in pieces:
                _check_finite(piece, video_ids[written : written + len(piece)])
                member.write(np.ascontiguousarray(piece, "<f4").tobytes())
                written += len(piece)
        if written != len(video_ids):
            raise ValueError(f"{len(video_ids)} videos need as many logits (got {written})")
        known = facts()
        texts = _texts(known)
        _add_texts(archive, "video_ids", texts.pop("video_ids"))
        _add(archive, "labels", known.labels)
        _add(archive, "classes", np.array(known.classes, dtype=np.str_))
        _add(archive, "about", np.array(json.dumps(known.about, allow_nan=False)))
        for name, each in texts.items():
            _add_texts(archive, name, each)
    sync_folder(path.parent)


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _add_texts(archive: zipfile.ZipFile, name: str, texts: Sequence[str]) -> None:
    """Add an array of texts that need not fit in memory: a character takes four bytes in it."""
    width = max(1, max(map(len, texts), default=1))
    dtype = np.dtype((np.str_, width))
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (len(texts),)}
        np.lib.format.write_array_header_1_0(member, header)
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            member.write(np.array(texts[first : first + _TEXTS_AT_ONCE], dtype).tobytes())


def load_ids(path: str | Path) -> tuple[str, ...]:
    """The video ids of a table, without reading its scores. Raises InputError as `load` does."""
    path = Path(path)
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            return tuple(_member(archive, "video_ids", (1, "U")).tolist())
    except FileNotFoundError:
        raise InputError(f"{path}: the score file does not exist") from None
    except DAMAGE as error:
        raise InputError(f"{path}: cannot be read as a score file ({_reason(error)})") from None


def load(path: str | Path) -> Scores:
    """Read a table written by `save`. Raises InputError, naming the file, for any other
    file: missing, damaged, with objects, compressed, or of a declared size that is not its real one
    (checked before memory is allocated)."""
    path = Path(path)
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            file_format = _member(archive, "format", (0, "U")).item()
            if file_format != FORMAT:
                raise ValueError(f"its format must be {FORMAT!r} (got {file_format[:40]!r})")
            text = _member(archive, "about", (0, "U")).item()
            about = json.loads(text, parse_constant=reject_constant)
            if not isinstance(about, dict):
                raise ValueError("'about' is not a JSON object")
            return Scores(
                video_ids=tuple(_member(archive, "video_ids", (1, "U")).tolist()),
                labels=_member(archive, "labels", (1, "i"), (2, "u")),
                classes=tuple(_member(archive, "classes", (1, "U")).tolist()),
                logits=_member(archive, "logits", (2, "f")),
                about=about,
                groups=_optional_texts(archive, "groups"),
                parts=_optional_texts(archive, "parts"),
            )
    except FileNotFoundError:
        raise InputError(f"{path}: the score file does not exist") from None
    except DAMAGE as error:
        raise InputError(f"{path}: cannot be read as a score file ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, zipfile.BadZipFile):
        return "it is damaged, or not an .npz file"
    return str(error)


@functools.lru_cache(maxsize=256)  # numpy parses it as Python code, which takes 0.1 ms
def _header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype from the bytes of a npy file up to its first number."""
    stream = io.BytesIO(start)
    np.lib.format.read_magic(stream)
    return np.lib.format.read_array_header_1_0(stream)


def _optional_texts(archive: zipfile.ZipFile, name: str) -> tuple[str, ...]:
    """One array of texts; () if the archive does not have it."""
    if f"{name}.npy" not in archive.namelist():
        return ()
    return tuple(_member(archive, name, (1, "U")).tolist())


def _member(archive: zipfile.ZipFile, name: str, *forms: tuple[int, str]) -> np.ndarray:
    """One array of the archive, in one of the forms (axes, kind of dtype). Its declared size must be
    its real one, so that a small file cannot make us allocate much memory."""
    assert archive.fp
    info, file_bytes = archive.getinfo(f"{name}.npy"), os.fstat(archive.fp.fileno()).st_size
    if (
        info.compress_type != zipfile.ZIP_STORED
        or not info.file_size == info.compress_size <= file_bytes
    ):
        raise ValueError(f"{name!r} must be stored uncompressed and in full")
    data = archive.read(info)  # the archive checks its CRC
    version = np.lib.format.read_magic(io.BytesIO(data))
    if version != (1, 0):
        raise ValueError(f"{name!r} must have npy version (1, 0) (got {version})")
    start = _PREFIX_BYTES + int.from_bytes(data[_PREFIX_BYTES - 2 : _PREFIX_BYTES], "little")
    shape, is_fortran, dtype = _header(data[:start])
    if (len(shape), dtype.kind) not in forms:
        raise ValueError(f"{name!r} has the unexpected type {dtype} with {len(shape)} axes")
    declared_bytes, stored_bytes = math.prod(shape) * dtype.itemsize, info.file_size - start
    if declared_bytes != stored_bytes:
        raise ValueError(f"{name!r} declares {declared_bytes} bytes, but stores {stored_bytes}")
    flat = np.frombuffer(data, dtype, offset=start) if declared_bytes else np.empty(0, dtype)
    array = flat.reshape(shape, order="F" if is_fortran else "C")  # of the archive's bytes, no copy
    if dtype.kind == "U" and (
        not dtype.isnative or (array.size and array.reshape(-1).view(np.uint32).max() > 0x10FFFF)
    ):
        raise ValueError(f"{name!r} is not Unicode text")
    return array
