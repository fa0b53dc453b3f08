"""What this process may use of its machine: cores and memory, also inside a container or a batch job.

A container and most batch systems limit a process by control groups (cgroups): a CPU quota and a memory limit, which neither
`os.cpu_count`, the scheduling affinity nor /proc/meminfo show. A limit of any parent group counts as well, so all of them are
read, from the process's own group up to the root of the mount.

Sources (Linux kernel documentation): admin-guide/cgroup-v2.rst (cpu.max, memory.max, memory.high, memory.current, memory.stat),
admin-guide/cgroup-v1/memory.rst (memory.limit_in_bytes, memory.usage_in_bytes), scheduler/sched-bwc.rst (cpu.cfs_quota_us),
filesystems/proc.rst (MemAvailable, mountinfo); and cgroups(7) (/proc/self/cgroup).
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SHARED_MEMORY = "/dev/shm"
_CFS_PERIOD_US = 100_000  # the kernel's default
# Read by the libraries that compute when they are loaded: OpenMP (torch) and OpenBLAS (numpy, scipy); OpenCV.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


@dataclass(frozen=True)
class Limit:
    """How much there is, in cores or in bytes, and what sets it, in words."""

    value: int
    source: str


@dataclass(frozen=True)
class Group:
    """A control group that this process is in: its name below the hierarchy's root, the folder of its files, and the version of
    its hierarchy, 1 or 2."""

    name: str
    folder: Path
    version: int

    def __str__(self) -> str:
        return f"control group {self.name}, cgroup v{self.version}"


@dataclass(frozen=True)
class _Mount:
    """Where a hierarchy is mounted. controllers: those of a v1 hierarchy; top: the group that the mount point shows."""

    version: int
    controllers: tuple[str, ...]
    top: PurePosixPath
    folder: Path


def cores(root: Path = Path("/")) -> Limit:
    """Cores that this process may use: the least of its scheduling affinity and the CPU quotas of its control group and all
    parents, a fraction rounded up, at least 1. `root` holds /proc and /sys."""
    limits = [_affinity()]
    for group in groups("cpu", root):
        quota = _quota_cores(group)
        if quota is not None:
            limits.append(Limit(max(1, math.ceil(quota)), f"CPU quota of {group}"))
    return min(limits, key=lambda limit: limit.value)


def available_memory(root: Path = Path("/")) -> Limit:
    """Bytes that this process can still take: the least of the machine's available memory and what the memory limits of its
    control group and all parents leave. `root` holds /proc and /sys.

    Swap is not counted. File cache is, as in MemAvailable: the kernel drops it before it ends a process.
    """
    limits = [_machine_memory(root)]
    for group in groups("memory", root):
        limit_bytes = _memory_limit_bytes(group)
        if limit_bytes is not None:
            left_bytes = max(0, limit_bytes - _unreclaimable_bytes(group))
            limits.append(Limit(left_bytes, f"memory limit of {group}"))
    return min(limits, key=lambda limit: limit.value)


def limit_threads() -> None:
    """Let the libraries that compute start no more threads than a CPU quota allows: they count the cores of the affinity.

    Call it before they are imported; torch and OpenCV may be loaded already. Lower numbers that the user has set stay.
    Without a quota nothing is changed.
    """
    allowed = cores()
    if allowed.value >= _affinity().value:
        return
    for name in _THREAD_VARIABLES:
        chosen = _whole_number(os.environ.get(name, "").partition(",")[0])  # OpenMP takes a list, a number for each level
        if not chosen or chosen > allowed.value:
            os.environ[name] = str(allowed.value)
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch is not None:
        torch.set_num_threads(min(torch.get_num_threads(), allowed.value))
    if cv2 is not None:
        cv2.setNumThreads(min(cv2.getNumThreads(), allowed.value))


def groups(controller: str, root: Path = Path("/")) -> list[Group]:
    """The control groups by which `controller` ("cpu", "memory") governs this process, in both versions' hierarchies, each from
    the process's own group to the root of the mount. Empty where there are no control groups.

    A container may show only a part of a hierarchy: then `top` of the mount is a group, and the process's path begins with it.
    Where the path does not begin with it (the path of another namespace), the mounted group is taken alone.
    """
    paths = _own_paths(root)
    found: list[Group] = []
    for version in (1, 2):
        path = paths.get(controller if version == 1 else "")
        if path is None:
            continue
        mounts = [one for one in _mounts(root) if one.version == version and (version == 2 or controller in one.controllers)]
        holding = [mount for mount in mounts if ".." not in path.parts and path.is_relative_to(mount.top)]
        for mount in holding:
            found += _up_to_top(path, mount)
        if not holding:
            found += [Group(str(mount.top), mount.folder, version) for mount in mounts]
    return list(dict.fromkeys(found))


def _up_to_top(path: PurePosixPath, mount: _Mount) -> Iterator[Group]:
    for name in (path, *path.parents):
        yield Group(str(name), mount.folder / name.relative_to(mount.top), mount.version)
        if name == mount.top:
            return


def _own_paths(root: Path) -> dict[str, PurePosixPath]:
    """Controller -> the process's group in its v1 hierarchy; "" -> its group in the v2 hierarchy."""
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number.isdecimal() and path.startswith("/"):
            for controller in controllers.split(","):
                paths[controller] = PurePosixPath(path)
    return paths


def _mounts(root: Path) -> Iterator[_Mount]:
    """Where hierarchies of control groups are mounted, by /proc/self/mountinfo."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        about_mount, _, about_filesystem = line.partition(" - ")
        mount, filesystem = about_mount.split(), about_filesystem.split()
        if len(mount) < 5 or len(filesystem) < 3 or filesystem[0] not in ("cgroup", "cgroup2"):
            continue
        top, folder = (_unescaped(word) for word in mount[3:5])
        version = 2 if filesystem[0] == "cgroup2" else 1
        yield _Mount(version, tuple(filesystem[2].split(",")), PurePosixPath(top), root / folder.lstrip("/"))


def _unescaped(word: str) -> str:
    """mountinfo writes a space, a tab, a newline and a backslash as a backslash and three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def _affinity() -> Limit:
    machine_cores = os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return Limit(machine_cores, "cores of this machine")
    allowed = len(os.sched_getaffinity(0))
    if allowed < machine_cores:
        return Limit(allowed, f"scheduling affinity, of {machine_cores} cores of this machine")
    return Limit(allowed, "cores of this machine")


def _quota_cores(group: Group) -> float | None:
    """Core seconds a second that the group may use; None without a quota."""
    if group.version == 1:
        quota_us = _whole_number(_text(group.folder / "cpu.cfs_quota_us"))  # -1: none
        period_us = _whole_number(_text(group.folder / "cpu.cfs_period_us"))
    else:
        quota_word, _, period_word = _text(group.folder / "cpu.max").partition(" ")  # "max 100000", "150000 100000"
        quota_us, period_us = _whole_number(quota_word), _whole_number(period_word)
    return quota_us / (period_us or _CFS_PERIOD_US) if quota_us else None


def _machine_memory(root: Path) -> Limit:
    """MemAvailable of Linux; elsewhere what the system calls free, or all it has."""
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        available_kib = _whole_number(rest.removesuffix("kB"))
        if name == "MemAvailable" and available_kib is not None:
            return Limit(available_kib * 1024, "available memory of this machine")
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return Limit(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"), "memory of this machine")


def _memory_limit_bytes(group: Group) -> int | None:
    """None without a limit; v1 writes "no limit" as a number larger than any machine's memory, which limits nothing either."""
    names = ("memory.limit_in_bytes",) if group.version == 1 else ("memory.max", "memory.high")  # above high it only crawls
    limits = [_whole_number(_text(group.folder / name)) for name in names]
    return min((limit for limit in limits if limit is not None), default=None)


def _unreclaimable_bytes(group: Group) -> int:
    """What the group and the groups below it use, without file cache and what the kernel itself can give back."""
    usage_name = "memory.usage_in_bytes" if group.version == 1 else "memory.current"
    prefix = "total_" if group.version == 1 else ""  # of v1's numbers only the totals count the groups below
    cache_bytes = 0
    for line in _text(group.folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        # Not "cache", which counts shared memory (/dev/shm) too: that is only freed when its files are removed.
        if name in (f"{prefix}inactive_file", f"{prefix}active_file", "slab_reclaimable"):
            cache_bytes += _whole_number(value) or 0
    return max(0, (_whole_number(_text(group.folder / usage_name)) or 0) - cache_bytes)


def _whole_number(text: str) -> int | None:
    """None for anything but decimal digits: "max", "-1", nothing."""
    stripped = text.strip()
    return int(stripped) if stripped.isascii() and stripped.isdecimal() else None


def _text(path: Path) -> str:
    """A file's text, "" where it cannot be read: a file that is not there says nothing about limits."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")  # a group may have any name
    except OSError:
        return ""
