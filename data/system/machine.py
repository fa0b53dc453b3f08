"""The cores and the memory that this process may use, also inside a container or a batch job.

A container and most batch systems limit a process by control groups (cgroups): a CPU quota and a
memory limit, which `os.cpu_count`, the scheduling affinity and /proc/meminfo do not show. The
limits of parent groups apply as well, so all groups are read, from the process's own group to the
root of the mount.

Sources (Linux kernel documentation): admin-guide/cgroup-v2.rst (cpu.max, memory.max, memory.high,
memory.current, memory.stat), admin-guide/cgroup-v1/memory.rst (memory.limit_in_bytes,
memory.usage_in_bytes), scheduler/sched-bwc.rst (cpu.cfs_quota_us), filesystems/proc.rst
(MemAvailable, mountinfo); and cgroups(7) (/proc/self/cgroup).
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
# Read when these libraries are loaded: OpenMP (torch) and OpenBLAS (numpy, scipy); OpenCV.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


@dataclass(frozen=True)
class Limit:
    """A number of cores or bytes, and the name of what limits it, for messages."""

    value: int
    source: str


@dataclass(frozen=True)
class Group:
    """A control group that contains this process: its name below the hierarchy's root, the folder
    with its files, and the version of its hierarchy, 1 or 2."""

    name: str
    folder: Path
    version: int

    def __str__(self) -> str:
        return f"control group {self.name}, cgroup v{self.version}"


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy. controllers: those of a v1 hierarchy; top: the group at the mount
    point."""

    version: int
    controllers: tuple[str, ...]
    top: PurePosixPath
    folder: Path


def cores(root: Path = Path("/")) -> Limit:
    """Cores that this process may use: the minimum of its scheduling affinity and the CPU quotas of
    its control group and all parents, rounded up. `root` contains /proc and /sys."""
    limits = [_affinity()]
    for group in groups("cpu", root):
        quota = _quota_cores(group)
        if quota is not None:
            limits.append(Limit(max(1, math.ceil(quota)), f"CPU quota of {group}"))
    return min(limits, key=lambda limit: limit.value)


def available_memory(root: Path = Path("/")) -> Limit:
    """Bytes that this process can still allocate: the minimum of the machine's available memory and
    the memory that the limits of its control group and all parents leave. `root` contains /proc and
    /sys.

    Swap is not counted. File cache counts as available, as in MemAvailable, because the kernel
    frees it before it kills a process.
    """
    limits = [_machine_memory(root)]
    for group in groups("memory", root):
        limit_bytes = _memory_limit_bytes(group)
        if limit_bytes is not None:
            left_bytes = max(0, limit_bytes - _unreclaimable_bytes(group))
            limits.append(Limit(left_bytes, f"memory limit of {group}"))
    return min(limits, key=lambda limit: limit.value)


def limit_threads() -> None:
    """Limit the threads of numerical libraries to the CPU quota; by default they start one thread
    for each core of the affinity.

    Call it before they are imported; torch and OpenCV may already be loaded. Lower numbers that the
    user has set are kept. Without a quota nothing is changed.
    """
    allowed = cores()
    if allowed.value >= _affinity().value:
        return
    for name in _THREAD_VARIABLES:
        # OpenMP accepts a list with a number for each level of nesting; the first one counts.
        chosen = _whole_number(os.environ.get(name, "").partition(",")[0])
        if not chosen or chosen > allowed.value:
            os.environ[name] = str(allowed.value)
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch is not None:
        torch.set_num_threads(min(torch.get_num_threads(), allowed.value))
    if cv2 is not None:
        cv2.setNumThreads(min(cv2.getNumThreads(), allowed.value))


def groups(controller: str, root: Path = Path("/")) -> list[Group]:
    """The control groups through which `controller` ("cpu", "memory") limits this process, in the
    hierarchies of both versions, from the process's own group to the root of the mount. Empty if
    the system does not use control groups.

    In a container only a part of a hierarchy may be visible. Then `top` of the mount is a group,
    and the process's path begins with it. If it does not (the path belongs to another namespace),
    only the mounted group is used.
    """
    paths = _own_paths(root)
    governing: list[Group] = []
    for version in (1, 2):
        path = paths.get(controller if version == 1 else "")
        if path is None:
            continue
        mounts = [
            mount
            for mount in _mounts(root)
            if mount.version == version and (version == 2 or controller in mount.controllers)
        ]
        holding = [
            mount for mount in mounts if ".." not in path.parts and path.is_relative_to(mount.top)
        ]
        for mount in holding:
            governing += _up_to_top(path, mount)
        if not holding:
            governing += [Group(str(mount.top), mount.folder, version) for mount in mounts]
    return list(dict.fromkeys(governing))


def _up_to_top(path: PurePosixPath, mount: _Mount) -> Iterator[Group]:
    for name in (path, *path.parents):
        yield Group(str(name), mount.folder / name.relative_to(mount.top), mount.version)
        if name == mount.top:
            return


def _own_paths(root: Path) -> dict[str, PurePosixPath]:
    """Controller -> the process's group in its v1 hierarchy; "" -> its group in the v2
    hierarchy."""
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, entry = line.partition(":")
        controllers, _, path = entry.partition(":")
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
        yield _Mount(
            version, tuple(filesystem[2].split(",")), PurePosixPath(top), root / folder.lstrip("/")
        )


def _unescaped(word: str) -> str:
    """Decode a word of mountinfo, in which a space, a tab, a newline and a backslash are written as
    a backslash and three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def _affinity() -> Limit:
    machine_cores = os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return Limit(machine_cores, "cores of this machine")
    allowed = len(os.sched_getaffinity(0))
    if allowed < machine_cores:
        return Limit(allowed, f"scheduling affinity; this machine has {machine_cores} cores")
    return Limit(allowed, "cores of this machine")


def _quota_cores(group: Group) -> float | None:
    """Core seconds per second that the group may use; None without a quota."""
    if group.version == 1:
        quota_us = _whole_number(_text(group.folder / "cpu.cfs_quota_us"))  # -1: none
        period_us = _whole_number(_text(group.folder / "cpu.cfs_period_us"))
    else:
        # "max 100000" or "150000 100000"
        quota_word, _, period_word = _text(group.folder / "cpu.max").partition(" ")
        quota_us, period_us = _whole_number(quota_word), _whole_number(period_word)
    return quota_us / (period_us or _CFS_PERIOD_US) if quota_us else None


def _machine_memory(root: Path) -> Limit:
    """MemAvailable of Linux; on other systems the free memory, or all memory if that is unknown."""
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, amount = line.partition(":")
        available_kib = _whole_number(amount.removesuffix("kB"))
        if name == "MemAvailable" and available_kib is not None:
            return Limit(available_kib * 1024, "available memory of this machine")
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return Limit(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"), "memory of this machine")


def _memory_limit_bytes(group: Group) -> int | None:
    """The memory limit of a group, None without a limit. In v1 "no limit" is a number larger than
    the memory of any machine."""
    # Above memory.high the kernel slows the process down so much that it counts as a limit.
    names: tuple[str, ...] = ("memory.max", "memory.high")
    if group.version == 1:
        names = ("memory.limit_in_bytes",)
    limits = [_whole_number(_text(group.folder / name)) for name in names]
    return min((limit for limit in limits if limit is not None), default=None)


def _unreclaimable_bytes(group: Group) -> int:
    """Bytes that the group and the groups below it use, without memory that the kernel can free
    (file cache and reclaimable slabs)."""
    usage_name = "memory.usage_in_bytes" if group.version == 1 else "memory.current"
    # In v1 only the values with "total_" include the groups below.
    prefix = "total_" if group.version == 1 else ""
    cache_bytes = 0
    for line in _text(group.folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        # Not "cache", which includes shared memory (/dev/shm): that is freed only when its files
        # are removed.
        if name in (f"{prefix}inactive_file", f"{prefix}active_file", "slab_reclaimable"):
            cache_bytes += _whole_number(value) or 0
    return max(0, (_whole_number(_text(group.folder / usage_name)) or 0) - cache_bytes)


def _whole_number(text: str) -> int | None:
    """The number in a text of decimal digits; None for any other text ("max", "-1", "")."""
    stripped = text.strip()
    return int(stripped) if stripped.isascii() and stripped.isdecimal() else None


def _text(path: Path) -> str:
    """The text of a file, "" if it cannot be read: a missing file means that there is no limit."""
    try:
        # The name of a group may contain any bytes.
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
