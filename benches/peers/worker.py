"""One peer in a process of its own, inside the virtual environment: a job as JSON on the command line,
answers as lines of JSON on standard output. A framework that crashes takes nothing else with it.
"""
from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import sys
import time

import frameworks

# Calls that do not count: the first ones compile, allocate and touch memory for the first time.
WARM_UP = 3
# The median has settled long before.
MOST_STEPS = 100_000
# Threads of the last setting spin for some milliseconds before they sleep.
REST = 0.1


def main() -> None:
    # An interrupt goes to the whole terminal; the parent decides, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Frameworks print too: only answers go to the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(value: dict) -> None:
        print(json.dumps(value), file=answers, flush=True)

    job = json.loads(sys.argv[1])
    try:
        JOBS[job["do"]](job, answer)
    except Exception as error:  # whatever a framework raises is this peer's answer
        answer({"error": describe(error)})
        sys.exit(1)


def describe(error: BaseException) -> str:
    """One line that says what went wrong."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def version(job: dict, answer) -> None:
    answer({"version": frameworks.BY_NAME[job["peer"]].version()})


def export(job: dict, answer) -> None:
    answer({"parameters": frameworks.export(job["net"], job["batch"], job["stem"])})


def serve(job: dict, answer) -> None:
    """Says which settings there are, then times one for every line on standard input."""
    peer = frameworks.BY_NAME[job["peer"]](job)
    answer({"parameters": peer.parameters, "settings": list(peer.settings)})
    for line in sys.stdin:
        request = json.loads(line)
        step = peer.settings[request["setting"]]()
        answer(timed(step, request["seconds"], request["fewest"]))
        del step


def timed(step, seconds: float, fewest: int) -> dict:
    """The median time of a call over about some seconds, but at least of `fewest` calls."""
    time.sleep(REST)
    clock = time.perf_counter
    start = clock()
    for _ in range(WARM_UP):
        step()
        if clock() - start > seconds:
            break
    times = []
    start = clock()
    while len(times) < fewest or (clock() - start < seconds and len(times) < MOST_STEPS):
        before = clock()
        step()
        times.append(clock() - before)
    return {"median_ms": 1e3 * statistics.median(times), "steps": len(times)}


def memory(job: dict, answer) -> None:
    """A few training steps, for a parent that watches this process; says what importing took of it."""
    import torch

    torch.set_num_threads(job["threads"])
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = frameworks.training_step(job["net"], job["batch"], job["layout"])
    for _ in range(job["steps"]):
        step()
    answer({"imported": imported})


JOBS = {"version": version, "export": export, "serve": serve, "memory": memory}

if __name__ == "__main__":
    main()
