"""The summary at the end of an extraction: damaged files, missing videos, and the reasons."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reelbank.data.console import as_run, counted, print_lines
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.store.damage import damage_among
from reelbank.data.store.records import Failure
from reelbank.data.store.stored import StoredFeatures
from reelbank.extract.devices.one_device import VideoReport

# Exit code if the machine could not read some videos. The same command tries them again.
NOT_ALL_READ = 3
_MOST_LISTED = 10  # videos of one kind that the summary names
_MOST_IN_A_ROW = 8


class UnreadVideos:
    """Collects the videos that the machine could not read in this run, and ends the run if there
    are too many in a row.

    reasons: by video id; most: videos in a row that end the run. It has to be larger than the
    number of workers, which may all die at once if memory is full or their process group is killed.
    """

    def __init__(self, root: Path, most: int = _MOST_IN_A_ROW) -> None:
        self.root, self.most, self.in_a_row, self.read = root, most, 0, 0
        self.identity_of_root = _identity_of(root)
        self.reasons: dict[str, str] = {}

    def see(self, video: Video, report: VideoReport) -> None:
        """Record what became of a video. Raises InputError if too many videos in a row could not be
        read, or if ROOT is gone."""
        self.reasons.pop(video.id, None)  # it may be extracted a second time, on another device
        if report.unread:
            self.reasons[video.id] = report.unread[-1]
        if report.read > self.read:
            self.in_a_row, self.read = 0, report.read
        if not report.is_unread:
            return
        self.in_a_row += 1
        last = f"{video.path}: {report.unread[0]}"
        again = "run the same command to continue; finished videos are kept"
        if _identity_of(self.root) != self.identity_of_root:
            raise InputError(
                f"ROOT={self.root} is not the same folder as at the start, because it was "
                f"moved or unmounted ({last}); restore the folder, and {again}"
            )
        if self.in_a_row >= self.most:
            raise InputError(
                f"{self.in_a_row} videos in a row could not be read, most recently {last}; "
                f"repair this machine, and {again}"
            )


def _identity_of(folder: Path) -> tuple[int, int]:
    """Identifies a folder on disk. It changes if another folder appears at the path, for example
    when a disk is unmounted."""
    try:
        status = folder.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def tell_damage(
    videos: Sequence[Video], stores: Sequence[StoredFeatures], *, refuse_damaged: bool
) -> None:
    """Print the damage of the files of stored videos.

    With refuse_damaged, such videos were stored by an earlier run, or only their pictures are
    damaged and a store has their sound.
    """
    stored: set[str] = set()
    # Each stream's store describes what the stream read, so a video may have several lines.
    damage_lines: dict[str, list[str]] = {}
    remark_lines: dict[str, list[str]] = {}
    for store in stores:
        facts = store.facts()
        stored |= facts.keys() & {video.id for video in videos}
        damage = damage_among(list(facts), list(facts.values()))
        for lines_by_id, lines in ((damage_lines, damage.videos), (remark_lines, damage.remarks)):
            for video_id, line in lines.items():
                lines_by_id.setdefault(video_id, []).append(line)
    damaged = _joined_lines(videos, damage_lines)
    remarks = _joined_lines(videos, remark_lines)
    verb = "is" if len(damaged) == 1 else "are"
    hint = "give DAMAGED=refuse to leave them out"
    if refuse_damaged:
        hint = (
            "kept, because an earlier run stored them or this stream is not damaged; 'reelbank "
            "remove' deletes a store"
        )
    for what, lines in (
        (as_run(f"{verb} damaged ({hint}; 'reelbank inspect' lists all)"), damaged),
        ("have contradictory headers", remarks),
    ):
        if lines:
            print_lines(f"{len(lines)} of {counted(len(stored), 'video')} {what}:")
        for video_id in list(lines)[:_MOST_LISTED]:
            print_lines(f"  {video_id}: {lines[video_id]}")


def _joined_lines(videos: Sequence[Video], lines_by_id: Mapping[str, list[str]]) -> dict[str, str]:
    """One text for each video that has lines, in the order of `videos`."""
    return {
        video.id: "; ".join(_distinct(lines_by_id[video.id]))
        for video in videos
        if video.id in lines_by_id
    }


def _distinct(lines: Iterable[str]) -> Iterable[str]:
    """The lines without those that another line contains: an audio store describes the pictures
    too."""
    kept = dict.fromkeys(lines)
    return [line for line in kept if not any(line != other and line in other for other in kept)]


def closing_words(
    videos: Sequence[Video],
    stores: Sequence[StoredFeatures],
    *,
    finished: bool,
    shard: str,
    unread: dict[str, str],
) -> int:
    """Print how far each store is and which videos failed, and return the exit code of the command.

    unread: reasons of videos that could not be read in this run, also of those that have features
    from an earlier run
    """
    ids = {video.id for video in videos}
    for store in stores:
        stored = len(ids) - len(store.absent(ids))
        without = sum(failure.is_absence for failure in store.failed.values())
        silent = f", {without} without sound" if without else ""
        waiting = sum(
            store.failed[video.id].by_machine for video in videos if video.id in store.failed
        )
        state = "finished" if finished else "not finished"
        if waiting and not finished:
            state += f", because {counted(waiting, 'video')} could not be read on this machine"
        elif shard and not finished:
            state += ", because other shards are missing"
        print_lines(
            f"{store.path}: {stored} of {counted(len(videos), 'video')} stored{silent}; {state}"
        )
    failures: list[tuple[str, Failure]] = []
    for store in stores:
        failures += [item for item in store.failed.items() if not item[1].is_absence]
    not_read = unread | {key: failure.reason for key, failure in failures if failure.by_machine}
    failed = {key: str(failure) for key, failure in failures if key not in not_read}
    lost = [video for video in videos if video.id in failed]
    _print_reasons(
        as_run("failed (give RETRY=1 to try them again; 'reelbank inspect' lists all)"),
        lost,
        failed,
    )
    again = [video for video in videos if video.id in not_read]
    _print_reasons(
        "could not be read on this machine (run the same command to try them again)",
        again,
        not_read,
    )
    if again:
        return NOT_ALL_READ
    return 1 if lost else 0


def _print_reasons(what: str, videos: list[Video], reasons: dict[str, str]) -> None:
    if videos:
        print_lines(f"{counted(len(videos), 'video')} {what}:")
    for video in videos[:_MOST_LISTED]:
        print_lines(f"  {video.id}: {reasons[video.id]}")
