"""What a result has to say about the machine it was measured on. Standard library only; Linux and macOS."""
from __future__ import annotations

import os
import platform
import re
import subprocess

# Instruction sets that decide how fast these networks can be.
FLAGS = ("avx", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd")


def describe() -> dict:
    """Processor, cores, instruction sets, memory, system and present load."""
    info = _read("/proc/cpuinfo")
    have = _flags(info)
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu_name(info),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "physical_cores": physical_cores(info),
        "virtual": "hypervisor" in have,
        "avx2": "avx2" in have,
        "avx512": "avx512f" in have,
        "flags": [flag for flag in FLAGS if flag in have],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
    }


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _flags(cpuinfo: str) -> set[str]:
    lines = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return set(lines[0].split()) if lines else set()


def _cpu_name(cpuinfo: str) -> str:
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if names:
        return names[0].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if found:
            return found
    return platform.processor() or platform.machine()


def physical_cores(cpuinfo: str) -> int | None:
    """Cores without their second hardware threads, if the system says so."""
    pairs = set()
    for block in cpuinfo.split("\n\n"):
        package = re.search(r"^physical id\s*:\s*(\d+)", block, re.MULTILINE)
        core = re.search(r"^core id\s*:\s*(\d+)", block, re.MULTILINE)
        if package and core:
            pairs.add((package.group(1), core.group(1)))
    return len(pairs) or None


def thread_counts(usable: int, physical: int | None) -> list[int]:
    """Numbers of threads that every side is given: one, all, and one a core where a core has two."""
    counts = {1, usable}
    if physical and 1 < physical < usable:
        counts.add(physical)
    return sorted(counts)


def short_cpu(name: str) -> str:
    """A processor's name without trademarks, clock and number of cores."""
    name = re.sub(r"\((?:R|TM|C)\)|@.*$|\b\d+-Core\b|\b(?:CPU|Processor)\b", " ", name, flags=re.IGNORECASE)
    return " ".join(name.split()) or "unknown"


def slug(machine: dict, isa: str) -> str:
    """A part of a file's name: amd-epyc-2c-avx2."""
    text = f"{short_cpu(machine['cpu'])} {machine['cores']}c {isa}".lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def sentence(machine: dict) -> str:
    """AMD EPYC, 2 virtual cores, AVX2 (no AVX-512), 23.5 GiB of memory, Linux x86_64"""
    kind = "virtual core" if machine["virtual"] else "core"
    parts = [short_cpu(machine["cpu"]), f"{machine['cores']} {kind}{'s' if machine['cores'] != 1 else ''}"]
    if machine["avx512"]:
        parts.append("AVX-512")
    elif machine["avx2"]:
        parts.append("AVX2 (no AVX-512)")
    return ", ".join([*parts, f"{machine['memory_gib']} GiB of memory", machine["system"]])
