"""The cores and the memory that a process may use, read from copies of /proc and /sys
(tests/test_control_groups.py uses the live ones)."""

import os
from pathlib import Path

import pytest

from reelbank.data.system.machine import Limit, available_memory, cores, groups

GIB = 1 << 30
MEMINFO = f"MemTotal: {64 << 20} kB\nMemFree: {8 << 20} kB\nMemAvailable: {32 << 20} kB\n"
V1_NO_LIMIT = "9223372036854771712\n"
MOUNTS = {
    "v2": "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
    "cpu": "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct\n",
    "memory": "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:12 - cgroup cgroup rw,memory\n",
    "systemd": "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:5 - cgroup cgroup rw,xattr,name=systemd\n",
    "hybrid": "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:6 - cgroup2 cgroup2 rw,nsdelegate\n",
    "disk": "23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
}


@pytest.fixture(autouse=True)
def of_64_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 of 64 cores are allowed, whatever machine this is."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def written(
    root: Path, cgroup: str, mounts: str, files: dict[str, str], meminfo: str = MEMINFO
) -> Path:
    """A copy of /proc and /sys below `root`; files: path below /sys/fs/cgroup -> text."""
    texts = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, "proc/meminfo": meminfo}
    for name, text in {
        **texts,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names_of(limit: Limit) -> tuple[int, str]:
    """The value, and the control group that sets it ("" for the machine)."""
    _, _, group = limit.source.partition("control group ")
    return limit.value, group


# ---- cores


def test_without_control_groups_the_affinity_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cores(tmp_path) == Limit(16, "scheduling affinity; this machine has 64 cores")
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    assert cores(tmp_path) == Limit(64, "cores of this machine")
    assert groups("cpu", tmp_path) == []


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # rounded up
        ("20000 100000\n", 1),
        ("1000 100000\n", 1),
        ("30000 10000\n", 3),
        ("400000\n", 4),  # the period is the kernel's default
        ("max 100000\n", 16),
        ("6400000 100000\n", 16),  # more than the affinity
        ("", 16),
        ("0 100000\n", 16),
        ("-5 0\n", 16),
        ("many of them\n", 16),
        ("٣ 1\n", 16),  # a digit, but none that the kernel writes
    ],
)
def test_quota_of_v2(tmp_path: Path, quota: str, wanted: int) -> None:
    root = written(tmp_path, "0::/job\n", MOUNTS["disk"] + MOUNTS["v2"], {"job/cpu.max": quota})
    assert names_of(cores(root)) == (wanted, "/job, cgroup v2" if wanted < 16 else "")


@pytest.mark.parametrize(
    ("quota_us", "period_us", "wanted"),
    [
        ("200000\n", "100000\n", 2),
        ("-1\n", "100000\n", 16),
        ("50000\n", "100000\n", 1),
        ("250000\n", "", 3),
        ("", "", 16),
    ],
)
def test_quota_of_v1_with_combined_controllers(
    tmp_path: Path, quota_us: str, period_us: str, wanted: int
) -> None:
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": quota_us,
        "cpu,cpuacct/job/cpu.cfs_period_us": period_us,
    }
    root = written(
        tmp_path,
        "5:cpu,cpuacct:/job\n1:name=systemd:/other\n",
        MOUNTS["systemd"] + MOUNTS["cpu"],
        files,
    )
    assert names_of(cores(root)) == (wanted, "/job, cgroup v1" if wanted < 16 else "")


@pytest.mark.parametrize("at", ["a/b/c", "a/b", "a", "."])
def test_the_least_of_all_parents_counts(tmp_path: Path, at: str) -> None:
    files = {f"{name}/cpu.max": "max 100000" for name in ("a/b/c", "a/b", "a")} | {
        "a/b/c/cpu.max": "800000 100000"
    }
    files[f"{at}/cpu.max"] = "300000 100000"
    files["a/b/other/cpu.max"] = "100000 100000"  # of a sibling
    root = written(tmp_path, "0::/a/b/c\n", MOUNTS["v2"], files)
    assert names_of(cores(root)) == (3, f"/{'' if at == '.' else at}, cgroup v2")


def test_hybrid_hierarchies_are_both_looked_at(tmp_path: Path) -> None:
    cgroup = "4:memory:/m\n2:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u\n"
    mounts = MOUNTS["cpu"] + MOUNTS["memory"] + MOUNTS["hybrid"]
    files = {
        "cpu,cpuacct/c/cpu.cfs_quota_us": "400000",
        "cpu,cpuacct/c/cpu.cfs_period_us": "100000",
    }
    root = written(tmp_path, cgroup, mounts, files)
    assert names_of(cores(root)) == (4, "/c, cgroup v1")
    assert [str(group.folder.relative_to(root)) for group in groups("memory", root)] == [
        "sys/fs/cgroup/memory/m",
        "sys/fs/cgroup/memory",
        "sys/fs/cgroup/unified/u",
        "sys/fs/cgroup/unified",
    ]
    written(tmp_path, cgroup, mounts, {"unified/u/cpu.max": "200000 100000"})
    assert names_of(cores(root)) == (2, "/u, cgroup v2")


# ---- containers


def test_docker_with_a_namespace_of_its_own(tmp_path: Path) -> None:
    root = written(
        tmp_path, "0::/\n", MOUNTS["v2"], {"cpu.max": "200000 100000", "memory.max": f"{2 * GIB}"}
    )
    assert names_of(cores(root)) == (2, "/, cgroup v2")
    assert names_of(available_memory(root)) == (2 * GIB, "/, cgroup v2")


@pytest.mark.parametrize("path", ["/docker/ab12", "/docker/ab12/inner/most"])
def test_docker_that_shows_the_hosts_path_and_mounts_its_own_group(
    tmp_path: Path, path: str
) -> None:
    mounts = "".join(
        MOUNTS[name].replace(" / /sys", " /docker/ab12 /sys") for name in ("cpu", "memory")
    )
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "200000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": f"{4 * GIB}",
        "memory/inner/memory.limit_in_bytes": f"{3 * GIB}",
    }
    root = written(tmp_path, f"4:memory:{path}\n2:cpu,cpuacct:{path}\n", mounts, files)
    assert names_of(cores(root)) == (2, "/docker/ab12, cgroup v1")
    wanted = (
        (3 * GIB, "/docker/ab12/inner, cgroup v1")
        if "inner" in path
        else (4 * GIB, "/docker/ab12, cgroup v1")
    )
    assert names_of(available_memory(root)) == wanted


@pytest.mark.parametrize(
    ("path", "top"),
    [
        ("/", "/../.."),
        ("/../other", "/"),
        ("/docker/ab12", "/docker/ab1"),
        ("/system.slice/ssh", "/docker/ab12"),
    ],
)
def test_a_path_that_is_not_below_the_mount_gives_the_mounted_group(
    tmp_path: Path, path: str, top: str
) -> None:
    files = {"cpu.max": "500000 100000", "other/cpu.max": "100000 100000"}
    (tmp_path / "sys/fs/other").mkdir(parents=True)
    (tmp_path / "sys/fs/other/cpu.max").write_text("100000 100000")
    root = written(tmp_path, f"0::{path}\n", MOUNTS["v2"].replace(" / /sys", f" {top} /sys"), files)
    assert cores(root).value == 5


def test_a_mount_point_may_hold_spaces(tmp_path: Path) -> None:
    mounts = MOUNTS["v2"].replace("/sys/fs/cgroup", r"/sys/fs/cgroup/my\040own\134mount")
    root = written(
        tmp_path, "0::/my job\n", mounts, {r"my own\mount/my job/cpu.max": "200000 100000"}
    )
    assert names_of(cores(root)) == (2, "/my job, cgroup v2")


@pytest.mark.parametrize(
    ("cgroup", "mounts"),
    [
        ("", MOUNTS["v2"]),
        ("0::/job\n", ""),
        ("0::/job\n", "no mounts\n - \n1 2 3 - cgroup2\n"),
        ("rubbish\n::\n4:memory\n:::/\n0::relative\n\x00\xff\n", MOUNTS["v2"] + MOUNTS["memory"]),
    ],
)
def test_rubbish_limits_nothing(tmp_path: Path, cgroup: str, mounts: str) -> None:
    root = written(
        tmp_path, cgroup, mounts, {"job/cpu.max": "100000 100000", "job/memory.max": "1000"}
    )
    assert cores(root).value == 16
    assert available_memory(root) == Limit(32 * GIB, "available memory of this machine")


def test_files_that_cannot_be_read_limit_nothing(tmp_path: Path) -> None:
    for name in ("cpu.max", "memory.max", "memory.current", "memory.stat"):
        (tmp_path / "sys/fs/cgroup/job" / name).mkdir(
            parents=True
        )  # reading a folder fails, for root too
    root = written(tmp_path, "0::/job/gone\n", MOUNTS["v2"], {"memory.max": f"{GIB}"})
    assert cores(root).value == 16
    assert names_of(available_memory(root)) == (GIB, "/, cgroup v2")
    (tmp_path / "proc/self/cgroup").unlink()
    (tmp_path / "proc/self/cgroup").mkdir()
    assert available_memory(root).value == 32 * GIB


# ---- memory


def test_without_control_groups_memory_is_the_machines(tmp_path: Path) -> None:
    assert available_memory(written(tmp_path, "", "", {})) == Limit(
        32 * GIB, "available memory of this machine"
    )


@pytest.mark.parametrize(
    "meminfo", ["", "MemTotal: 1000 kB\n", "MemAvailable: a lot\n", "MemAvailable:\n"]
)
def test_without_mem_available_the_system_is_asked(tmp_path: Path, meminfo: str) -> None:
    found = available_memory(written(tmp_path, "", "", {}, meminfo))
    assert found.source == "memory of this machine"
    assert 1 << 20 < found.value <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


STAT = "anon 1000\nfile 700\nshmem 300\ninactive_anon 900\nactive_anon 400\ninactive_file {0}\nactive_file {1}\nunevictable 0\n"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"memory.max": f"{2 * GIB}"}, 2 * GIB),  # nothing else is known
        ({"memory.max": f"{2 * GIB}", "memory.current": f"{GIB}"}, GIB),
        (
            {
                "memory.max": f"{2 * GIB}",
                "memory.current": f"{GIB}",
                "memory.stat": STAT.format(5000, 200),
            },
            GIB + 5200,
        ),
        (
            {
                "memory.max": f"{2 * GIB}",
                "memory.current": f"{GIB}",
                "memory.stat": STAT.format("x", ""),
            },
            GIB,
        ),
        (
            {
                "memory.max": f"{2 * GIB}",
                "memory.current": f"{GIB}",
                "memory.stat": "slab_reclaimable 7\nslab 9\n",
            },
            GIB + 7,
        ),
        ({"memory.max": f"{2 * GIB}", "memory.current": f"{3 * GIB}"}, 0),
        (
            {
                "memory.max": f"{2 * GIB}",
                "memory.current": "9000",
                "memory.stat": STAT.format(20000, 0),
            },
            2 * GIB,
        ),
        ({"memory.max": f"{3 * GIB}", "memory.high": f"{2 * GIB}", "memory.current": "0"}, 2 * GIB),
        ({"memory.max": "max", "memory.high": f"{2 * GIB}", "memory.swap.max": f"{GIB}"}, 2 * GIB),
        ({"memory.max": "max", "memory.high": "max", "memory.current": f"{GIB}"}, 32 * GIB),
        (
            {"memory.max": f"{2 * GIB}", "memory.swap.max": "max", "memory.swap.current": "5"},
            2 * GIB,
        ),
        (
            {"memory.max": f"{60 * GIB}", "memory.current": f"{GIB}"},
            32 * GIB,
        ),  # the machine has less
    ],
)
def test_memory_of_v2(tmp_path: Path, files: dict[str, str], wanted: int) -> None:
    root = written(
        tmp_path, "0::/job\n", MOUNTS["v2"], {f"job/{name}": text for name, text in files.items()}
    )
    assert names_of(available_memory(root)) == (
        wanted,
        "/job, cgroup v2" if wanted < 32 * GIB else "",
    )


def test_memory_of_v1_counts_the_groups_below(tmp_path: Path) -> None:
    stat = "cache 90\ninactive_file 1\nactive_file 1\ntotal_cache 9000\ntotal_inactive_file 3000\ntotal_active_file 2000\n"
    files = {
        "memory/a/b/memory.limit_in_bytes": V1_NO_LIMIT,
        "memory/a/b/memory.usage_in_bytes": "4096\n",
        "memory/a/memory.limit_in_bytes": f"{2 * GIB}\n",
        "memory/a/memory.usage_in_bytes": f"{GIB}\n",
        "memory/a/memory.stat": stat,
        "memory/a/memory.soft_limit_in_bytes": "4096\n",
        "memory/memory.limit_in_bytes": V1_NO_LIMIT,
    }
    root = written(tmp_path, "4:memory:/a/b\n", MOUNTS["memory"], files)
    assert names_of(available_memory(root)) == (GIB + 5000, "/a, cgroup v1")


def test_the_parent_that_leaves_least_counts(tmp_path: Path) -> None:
    files = {
        "a/b/memory.max": f"{4 * GIB}",
        "a/memory.max": f"{8 * GIB}",
        "a/memory.current": f"{7 * GIB}",
    }
    root = written(tmp_path, "0::/a/b\n", MOUNTS["v2"], files)
    assert names_of(available_memory(root)) == (GIB, "/a, cgroup v2")


def test_v1_without_any_limit_is_the_machine(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": V1_NO_LIMIT,
        "memory/memory.usage_in_bytes": f"{5 * GIB}",
    }
    files |= {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    root = written(
        tmp_path, "4:memory:/\n2:cpu,cpuacct:/\n", MOUNTS["memory"] + MOUNTS["cpu"], files
    )
    assert available_memory(root).source == "available memory of this machine"
    assert cores(root).value == 16
