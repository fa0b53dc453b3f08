"""What decode processes compute of a video for its streams, and what they send."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reelbank.data.video.frames import Reading
from reelbank.data.video.functions import PictureFunction
from reelbank.data.video.sampling import USUAL_WINDOWS, Examples, Needed, Sampling
from reelbank.extract.flow.methods import FlowMethod
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.pipeline.streams import StreamPipeline, Task


@dataclass(frozen=True)
class Share:
    """What a decode process computes of a video, and the names of the pipelines that it is for."""

    function: PictureFunction
    names: tuple[str, ...]


def shares_of(
    task: Task, pipelines: Mapping[str, StreamPipeline], flow: FlowMethod | None
) -> list[Share]:
    """What the decode process computes of a video. Pipelines of one stream with the same resize
    share it."""
    samplings: dict[tuple[str, Resize], dict[str, Sampling]] = {}
    for name, rows in task.rows.items():
        if isinstance(rows, Sampling):
            key = (pipelines[name].stream.name, pipelines[name].resize)
            samplings.setdefault(key, {})[name] = rows
    shares = []
    for by_name in samplings.values():
        names = tuple(by_name)
        pipeline = pipelines[names[0]]
        function = pipeline.stream.picture_function([*by_name.values()], pipeline.resize, flow)
        if function:
            shares.append(Share(function, names))
    return shares


def reading_of(task: Task, decoder: str, shares: Sequence[Share]) -> Reading:
    """The request to the decode process: the pictures that other streams need together, the sound,
    and what it computes itself."""
    shared = {name for share in shares for name in share.names}
    samplings = tuple(
        rows
        for name, rows in task.rows.items()
        if isinstance(rows, Sampling) and name not in shared
    )
    examples = next((rows for rows in task.rows.values() if isinstance(rows, Examples)), None)
    return Reading(
        Needed(samplings) if samplings else None,
        decoder,
        examples,
        task.span_seconds,
        task.image_fps,
        [share.function for share in shares],
        examples.sound_windows if examples else USUAL_WINDOWS,
    )
