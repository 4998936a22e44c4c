#!/usr/bin/env python3
"""Measures what training by several processes costs on one machine; docs/scaling.md has the results.

    measure.py PROGRAM overhead          `mpirun -n 1` against no MPI, in turn
    measure.py PROGRAM hidden [GBIT...]  how much of the communication of two ranks is hidden behind the backward pass:
                                         over shared memory, over TCP, and over TCP at so many Gbit/s each way

PROGRAM is built with `--features mpi`. Limits of the rate need root: a network namespace whose loopback has a token bucket
(`tc qdisc ... htb`) of twice the rate, as both directions go through it. Nothing else should run on the machine.
"""

import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import zlib

ROUNDS = int(os.environ.get("ROUNDS", "5"))
MODEL = os.environ.get("MODEL", "resnet18")
SIZE = os.environ.get("SIZE", "128")
BATCH = int(os.environ.get("BATCH", "8"))  # images of a rank in a step
STEPS = int(os.environ.get("STEPS", "6"))
MPI = ["mpirun", "--allow-run-as-root", "--bind-to", "core"]


def png(path, side, generator):
    rows = b"".join(b"\0" + generator.randbytes(3 * side) for _ in range(side))
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        file.write(chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


def images(folder, count):
    generator = random.Random(1)
    for split, number in [("train", count), ("val", 2)]:
        for label in "ab":
            os.makedirs(f"{folder}/{split}/{label}")
            for i in range(number):
                png(f"{folder}/{split}/{label}/{i}.png", 64, generator)


def arguments(program, batch, extra=()):
    return [
        program, "train", "images", "--model", MODEL, "--size", SIZE, "--batch", str(batch), "--epochs", "2",
        "--threads", "1", "--augment", "none", "--hflip", "false", "--start", "none", "--lr", "0.001",
        "--false-rejects", "0", "--no-replay", "--json", *extra,
    ]


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def seconds(process, images_of_a_step):
    """Seconds of a step of the last epoch, and what the program says of communication in it."""
    out, err = process.communicate()
    if process.returncode:
        sys.exit(err)
    events = [json.loads(line) for line in out.splitlines()]
    epoch = [event for event in events if event["type"] == "epoch"][-1]
    told = [event for event in events if event["type"] == "communication"][-1:]
    return images_of_a_step / epoch["images_per_second"], told


def median(values):
    return statistics.median(values)


def spread(values):
    return f"{median(values):.4f} s ({min(values):.4f} to {max(values):.4f})"


def overhead(program):
    images("images", BATCH * STEPS // 2)
    alone, ranked = [], []
    for _ in range(ROUNDS):
        alone.append(seconds(start(arguments(program, BATCH)), BATCH)[0])
        ranked.append(seconds(start([*MPI, "-n", "1", *arguments(program, BATCH)]), BATCH)[0])
    print(f"{MODEL}, {SIZE} pixels, batch {BATCH}, 1 thread; a step without MPI: {spread(alone)}")
    print(f"by mpirun -n 1: {spread(ranked)}; overhead {100 * (median(ranked) / median(alone) - 1):+.2f} %")


def limited(command, gbit):
    """The command in a network namespace whose loopback carries `gbit` Gbit/s each way."""
    if gbit is None:
        return command
    prepare = (
        "ip link set lo up && ip link set lo mtu 9000 && tc qdisc add dev lo root handle 1: htb default 10 r2q 1000 && "
        f"tc class add dev lo parent 1: classid 1:10 htb rate {2 * gbit}gbit burst 256k cburst 256k"
    )
    return ["unshare", "-n", "sh", "-c", prepare + ' && exec "$@"', "sh", *command]


def hidden(program, rates):
    images("images", BATCH * STEPS)
    tcp = ["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"]
    ways = [("shared memory", [], None), ("TCP over loopback", tcp, None)]
    ways += [(f"TCP at {rate} Gbit/s", tcp, int(rate)) for rate in rates]
    for name, options, gbit in ways:
        none, during, behind, told = [], [], [], None
        for _ in range(ROUNDS):
            both = [start(["taskset", "-c", str(i), *arguments(program, BATCH)]) for i in range(2)]
            none.append(max(seconds(process, BATCH)[0] for process in both))
            run = [*MPI, *options, "-n", "2"]
            step, told = seconds(start(limited([*run, *arguments(program, 2 * BATCH)], gbit)), 2 * BATCH)
            during.append(step)
            late = arguments(program, 2 * BATCH, ["--no-overlap"])
            behind.append(seconds(start(limited([*run, *late], gbit)), 2 * BATCH)[0])
        total, exposed = median(behind) - median(none), median(during) - median(none)
        print(f"{MODEL}, {SIZE} pixels, {BATCH} images a rank, 1 thread each, two ranks: {name}")
        print(f"  a step without communication   {spread(none)}")
        print(f"  summed during the backward pass {spread(during)}")
        print(f"  summed behind it in one go      {spread(behind)}")
        print(f"  total {total:.4f} s, exposed {exposed:.4f} s, hidden {100 * (1 - exposed / max(total, 1e-9)):.0f} %")
        print(f"  as the program says: {told}", flush=True)


def main():
    program, what = os.path.abspath(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        overhead(program) if what == "overhead" else hidden(program, sys.argv[3:])
        os.chdir("/")


main()
