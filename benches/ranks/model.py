#!/usr/bin/env python3
"""When more machines pay: the cost model of docs/scaling.md, and its tables.

    model.py            the tables
    model.py N GBIT     all terms of each network on N ranks

A step on n ranks of a batch of b images takes

    T(n) = t * ceil(b / n) + u                      the images of a rank, the update of the parameters
         + (2 * norms + 4) * (L + (n - 1) * o)      what a step waits for: statistics, the begin and the end of a step
         + c * V                                    copies of what is sent and received, by the cores that compute
         + max(0, G - h * (2 / 3) * t * ceil(b / n))  gradients that the backward pass does not hide

    V = 2 * 2 * (n - 1) / n * 4 * P                 bytes sent and received, all-to-all and all-gather, of P parameters
    G = V / 2 / B + 2 * k * (L + (n - 1) * o)       k buckets, each exchanged twice

t, u, o, c and h are measured on one core of the machine that docs/scaling.md names (`measure.py`); L and B are those of the network.
A host of CORES cores computes CORES times as fast, which is kind to one machine and so strict to many.
"""

import math
import sys

CORES = 16
BATCH = 256
# Seconds: of a message that a rank sends or receives (o), of a byte copied (c); part of the backward pass that hides (h).
MESSAGE, COPY, HIDES = 5e-6, 9.0e-10, 0.9
# Latency of a network, with the thread that looks after it: 1 and 10 GbE as usual, 25 and 100 GbE with better cards.
NETWORKS = {1: 100e-6, 10: 50e-6, 25: 30e-6, 100: 20e-6}
# Parameters, normalisations, seconds of an image on one core at 224 x 224 and of the update of all parameters on one core.
NETS = {
    "keras-cnn": (12.0e6, 0, 0.0138, 0.020),
    "resnet18": (11.2e6, 20, 0.0719, 0.020),
    "mobilenet-v2": (2.2e6, 52, 0.0308, 0.004),
    "efficientnet-lite0": (3.4e6, 49, 0.0359, 0.006),
}


def terms(net, ranks, gbit):
    parameters, norms, image, update = NETS[net]
    image, update = image / CORES, update / CORES
    compute = image * math.ceil(BATCH / ranks)
    if ranks == 1:
        return {"compute": compute, "update": update}
    bandwidth, latency = gbit * 1e9 / 8, NETWORKS[gbit]
    bucket = max(1 << 18, ranks << 11)
    buckets = math.ceil(parameters / bucket)
    once = latency + (ranks - 1) * MESSAGE
    moved = 2 * 2 * (ranks - 1) / ranks * 4 * parameters
    gradients = moved / 2 / bandwidth + 2 * buckets * once
    return {
        "compute": compute,
        "update": update,
        "waits": (2 * norms + 4) * once,
        "copies": COPY * moved,
        "exposed": max(0.0, gradients - HIDES * 2 / 3 * compute),
    }


def step(net, ranks, gbit):
    return sum(terms(net, ranks, gbit).values())


def tables():
    counts = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1000]
    for gbit in NETWORKS:
        print(f"\n{gbit} GbE, batch {BATCH}, hosts of {CORES} cores: times as fast as one host\n")
        print("| Network | " + " | ".join(f"{n}" for n in counts) + " | best |")
        print("|---" * (len(counts) + 2) + "|")
        for net in NETS:
            alone = step(net, 1, gbit)
            speed = {n: alone / step(net, n, gbit) for n in range(1, 1001)}
            best = max(speed, key=speed.get)
            row = " | ".join(f"{speed[n]:.2f}" if speed[n] < 10 else f"{speed[n]:.0f}" for n in counts)
            print(f"| {net} | {row} | {speed[best]:.1f} on {best} |")


if len(sys.argv) == 3:
    for name in NETS:
        own = terms(name, int(sys.argv[1]), int(sys.argv[2]))
        print(name, {part: f"{1e3 * value:.2f} ms" for part, value in own.items()})
else:
    tables()
