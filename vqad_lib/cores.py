"""How many processor cores this process may use, often fewer than the machine has."""

import os
from pathlib import Path


def usable_cores(*, system: Path = Path("/")) -> int:
    """Cores of this process: of the machine, of its affinity (taskset, cpusets), and of its cgroup's quota of time.

    Args:
        system: the root folder; the quota stands in its proc/ and sys/fs/cgroup/, of version 1 or 2.

    Returns:
        At least 1; a quota is rounded down.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *_quotas(system)])))


def _quotas(system: Path) -> list[float]:
    """Cores by the quota of each cgroup that this process is in, from its own up to the outermost that it can see."""
    mount, found = system / "sys" / "fs" / "cgroup", []
    for line in _words(system / "proc" / "self" / "cgroup", "\n"):
        controllers, _, group = line.partition(":")[2].partition(":")
        if controllers == "" or "cpu" in controllers.split(","):
            own = mount / controllers / group.strip("/")
            # a container may see its own group as the outermost, under a name that is of the machine's
            for folder in (own, *(above for above in own.parents if above.is_relative_to(mount))):
                limit = _words(folder / "cpu.max") or [
                    *_words(folder / "cpu.cfs_quota_us"),
                    *_words(folder / "cpu.cfs_period_us"),
                ]
                if len(limit) == 2 and limit[0].isdigit() and limit[1].isdigit():  # not "max" or -1
                    found.append(int(limit[0]) / int(limit[1]))
    return found


def _words(file: Path, separator: str | None = None) -> list[str]:
    try:
        return file.read_text().split(separator)
    except OSError:
        return []
