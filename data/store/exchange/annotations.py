"""Annotations of actions as JSON, in the form of ActivityNet, ActionFormer, TriDet and OpenTAD:
`{"database": {video: {"subset", "duration", "fps", "frame", "annotations": [{"label", "segment":
[start, end], "label_id"}]}}}`, times in seconds."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.console import counted, print_lines, some
from reelbank.data.datasets.untrimmed import Action
from reelbank.data.errors import InputError
from reelbank.data.text_files import read_text


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video of a database. subset: such as "training". duration_seconds, fps: 0.0 if unknown."""

    subset: str
    actions: Sequence[Action]
    duration_seconds: float = 0.0
    fps: float = 0.0

    def labels(self) -> set[str]:
        """The classes of its actions."""
        return {action.label for action in self.actions}


@dataclass(frozen=True)
class Annotations:
    """The videos of a file by name, and the classes in the order of their label_id, or sorted."""

    videos: Mapping[str, AnnotatedVideo]
    classes: Sequence[str]


def read_annotations(path: str, option: str = "ANNOTATIONS") -> Annotations:
    """Read a file of annotations. Actions whose end is before their start, which public files contain,
    are left out, and a line on stderr names their videos. Raises InputError that names the video."""
    try:
        document = json.loads(read_text(Path(path).expanduser()))
    except OSError as error:
        raise InputError(f"{option}={path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{option}={path}: is not valid JSON ({error})") from None
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict) or not database:
        raise InputError(f"{option}={path}: must be a JSON object with the key 'database'")
    numbers: dict[str, int] = {}
    videos, reversed_in = {}, []
    for name, entry in database.items():
        videos[name], reversed_actions = _video(entry, f"{option}={path}, video {name}", numbers)
        reversed_in += [name] * reversed_actions
    if reversed_in:
        print_lines(
            f"note: {option}={path}: left out {counted(len(reversed_in), 'action')} with an end before "
            f"the start, of {some(list(dict.fromkeys(reversed_in)))}",
            file=sys.stderr,
        )
    return Annotations(videos, sorted(numbers, key=lambda label: (numbers[label], label)))


def _video(entry: Any, where: str, numbers: dict[str, int]) -> tuple[AnnotatedVideo, int]:
    """A video, and the number of its actions that end before they start. numbers: the label_id of each
    class, to which those of the video are added; 0 if it has none, so that classes without numbers
    are sorted by name."""
    facts = entry if isinstance(entry, dict) else {}
    subset, annotations = facts.get("subset", ""), facts.get("annotations", [])
    if not facts or not isinstance(subset, str) or not isinstance(annotations, list):
        raise InputError(f"{where}: expected an object with 'subset' and a list 'annotations'")
    actions, reversed_actions = [], 0
    for annotation in annotations:
        action = _action(annotation, where)
        label_id = annotation.get("label_id", 0)
        if type(label_id) is not int or numbers.setdefault(action.label, label_id) != label_id:
            raise InputError(
                f"{where}: the label_id of {action.label} must be the same whole number everywhere "
                f"(got {label_id})"
            )
        if action.start_seconds <= action.end_seconds:
            actions.append(action)
        else:
            reversed_actions += 1
    duration = facts.get("duration", 0.0)
    frames, fps = facts.get("frame", 0), facts.get("fps", 0.0)
    if not all(map(is_time, (duration, frames, fps))):
        raise InputError(
            f"{where}: duration, frame and fps must be finite numbers that are not negative"
        )
    if not fps and duration and frames:
        fps = float(frames) / float(duration)  # as OpenTAD does
    if not is_time(float(fps)) or not is_time(float(duration) * float(fps)):
        raise InputError(f"{where}: duration, frame and fps are larger than those of any video")
    return AnnotatedVideo(subset, actions, float(duration), float(fps)), reversed_actions


def _action(annotation: Any, where: str) -> Action:
    facts = annotation if isinstance(annotation, dict) else {}
    label, segment = facts.get("label"), facts.get("segment")
    is_label = isinstance(label, str) and bool(label) and ";" not in label
    is_segment = isinstance(segment, list) and len(segment) == 2 and all(map(is_time, segment))
    if not is_label or not is_segment:
        raise InputError(
            f'{where}: expected annotations such as {{"label": "Skiing", "segment": [1.5, 20.0]}} '
            f"(got {str(annotation)[:80]})"
        )
    return Action(facts["label"], float(facts["segment"][0]), float(facts["segment"][1]))


def recorded_actions(value: Any) -> list[Action]:
    """The actions of a video as a store records them, [[class, start, end], ...] in seconds. Raises
    ValueError for a value of another form; its message begins with "must"."""
    actions = []
    for each in value if isinstance(value, list) else [value]:
        is_action = isinstance(each, list) and len(each) == 3 and isinstance(each[0], str)
        if not is_action or not _is_span(*each[1:]):
            raise ValueError(
                "must be lists of a class, a start, and an end that is not before it (got "
                f"{str(each)[:80]})"
            )
        actions.append(Action(each[0], float(each[1]), float(each[2])))
    return actions


def is_time(value: Any) -> bool:
    """Whether a value from JSON is a finite number that is not negative."""
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max


def _is_span(start: Any, end: Any) -> bool:
    return is_time(start) and is_time(end) and start <= end


def annotations_json(annotations: Annotations) -> str:
    """The text of a file of annotations, with the label_id of each class."""
    numbers = {label: number for number, label in enumerate(annotations.classes)}
    database = {}
    for name, video in annotations.videos.items():
        facts: dict[str, Any] = {"subset": video.subset}
        if video.duration_seconds:
            facts["duration"] = video.duration_seconds
        if video.fps:
            facts["fps"] = video.fps
            facts["frame"] = round(video.duration_seconds * video.fps)
        facts["annotations"] = [
            {
                "label": action.label,
                "segment": [action.start_seconds, action.end_seconds],
                "label_id": numbers[action.label],
            }
            for action in video.actions
        ]
        database[name] = facts
    return json.dumps({"version": "reelbank", "database": database}, indent=1)
