"""The routes of the service under Locust, as its users drove the service before: many clients that wait and come again.

    locust -f benches/locust/locustfile.py --headless -u 50 -r 10 -t 30s --host http://127.0.0.1:8080

Nothing but the given host is spoken to. Images are made here, from a fixed seed, at the size that GET /status names.
"""

import io
import json
import random
import struct
import urllib.request
import zipfile
import zlib

from locust import FastHttpUser, between, events, task

# Distinct images that are sent.
IMAGES = 100
# Images of each class in an uploaded archive.
UPLOADED = 4


@events.init_command_line_parser.add_listener
def arguments(parser):
    parser.add_argument(
        "--with-retrain",
        action="store_true",
        default=False,
        help="Also upload a data set and ask for a retraining: changes the service's data and model",
    )
    parser.add_argument(
        "--pause", type=float, default=0.0, help="Seconds that a client waits between requests, at most"
    )


def png(width, height, channels, rng):
    """A PNG (RFC 2083) of a random colour with noise."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    base = [rng.randrange(224) for _ in range(channels)]
    rows = bytearray()
    for _ in range(height):
        rows.append(0)  # no filter
        rows += bytes(value + rng.randrange(32) for _ in range(width) for value in base)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@events.test_start.add_listener
def make_images(environment, **_):
    """Once in a process, before the first client starts: making images takes longer than sending them."""
    with urllib.request.urlopen(environment.host.rstrip("/") + "/status") as answer:
        size = json.load(answer)["model"]["input"]
    rng = random.Random(1)
    Client.images = [png(size["width"], size["height"], size["channels"], rng) for _ in range(IMAGES)]


def archive(rng):
    """A ZIP of two class folders."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("first", "second"):
            for i in range(UPLOADED):
                file.writestr(f"{name}/{i}.png", png(28, 28, 3, rng))
    return buffer.getvalue()


class Client(FastHttpUser):
    """Mostly predictions, a look at the status now and then."""

    images = []

    def wait_time(self):
        pause = self.environment.parsed_options.pause
        return between(0, pause)(self) if pause > 0 else 0

    @task(50)
    def predict(self):
        image = random.choice(Client.images)
        files = {"file": ("image.png", image, "image/png")}
        with self.client.post("/predict", files=files, catch_response=True) as answer:
            if answer.status_code == 200 and "label" not in answer.json():
                answer.failure("an answer without a label")

    @task(1)
    def status(self):
        self.client.get("/status")

    @task(1)
    def retrain(self):
        if not self.environment.parsed_options.with_retrain:
            return
        files = {"file": ("data.zip", archive(random.Random(2)), "application/zip")}
        self.client.post("/upload-data", files=files)
        # While a retraining runs, a second one may be refused: that is an answer, not a failure.
        with self.client.post("/retrain", catch_response=True) as answer:
            if answer.status_code in (200, 202, 409):
                answer.success()
