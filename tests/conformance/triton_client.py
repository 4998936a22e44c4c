"""tritonclient, with its defaults, on a running service: python triton_client.py http://127.0.0.1:8080"""
from __future__ import annotations

import asyncio
import io
import json
import sys
import unittest
import urllib.request

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from PIL import Image
from tritonclient.utils import InferenceServerException

URL = "http://127.0.0.1:8080"


def png(pixels: np.ndarray) -> bytes:
    """An image file of `[height, width, channels]`."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def predict(image: bytes, classes: int) -> np.ndarray:
    """Probabilities of an image by class, as `/predict` says."""
    request = urllib.request.Request(f"{URL}/predict?top_k={classes}", image, {"content-type": "image/png"})
    with urllib.request.urlopen(request) as answer:
        top = json.load(answer)["predictions"][0]["top"]
    row = np.full(classes, np.nan, np.float32)
    for ranked in top:
        row[ranked["index"]] = ranked["probability"]
    return row


class Triton(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.client = http.InferenceServerClient(URL.removeprefix("http://"), concurrency=4)
        cls.model = cls.client.get_model_repository_index()[0]["name"]
        _, *cls.image = cls.client.get_model_metadata(cls.model)["inputs"][0]["shape"]
        cls.classes = cls.client.get_model_metadata(cls.model)["outputs"][0]["shape"][1]
        cls.pixels = np.random.default_rng(1).integers(0, 256, [3, *cls.image], np.uint8)
        cls.expected = np.stack([predict(png(image), cls.classes) for image in cls.pixels])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()

    def tensor(self, data: np.ndarray, datatype: str = "FP32", name: str = "pixels", **how) -> list[http.InferInput]:
        tensor = http.InferInput(name, list(data.shape), datatype)
        return [tensor.set_data_from_numpy(data, **how)]

    def floats(self, **how) -> list[http.InferInput]:
        return self.tensor(self.pixels.astype(np.float32), **how)

    def refused(self, text: str, call, *args, **kwargs) -> None:
        with self.assertRaises(InferenceServerException) as caught:
            call(*args, **kwargs)
        self.assertIn(text, caught.exception.message())
        self.assertRegex(caught.exception.status(), "4..")

    def test_health(self) -> None:
        self.assertTrue(self.client.is_server_live() and self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready(self.model))
        self.assertFalse(self.client.is_model_ready("another"))
        self.assertFalse(self.client.is_model_ready(self.model, "0123456789ab"))

    def test_metadata(self) -> None:
        server = self.client.get_server_metadata()
        self.assertEqual(server["name"], "ocelli")
        self.assertIn("binary_tensor_data", server["extensions"])
        model = self.client.get_model_metadata(self.model)
        self.assertEqual([tensor["datatype"] for tensor in model["inputs"] + model["outputs"]], ["FP32", "FP32"])
        for version in model["versions"]:
            self.assertEqual(self.client.get_model_metadata(self.model, version)["inputs"], model["inputs"])
            self.assertTrue(self.client.is_model_ready(self.model, version))
        config = self.client.get_model_config(self.model)
        self.assertEqual(config["input"][0]["dims"], self.image)
        self.refused("there is no model", self.client.get_model_metadata, "another")

    def test_every_form_gives_the_answer_of_predict(self) -> None:
        files = np.array([png(image) for image in self.pixels], np.object_)
        requests = {
            "binary, as by default": self.floats(),
            "JSON": self.floats(binary_data=False),
            "UINT8": self.tensor(self.pixels, "UINT8"),
            "UINT8 in JSON": self.tensor(self.pixels, "UINT8", binary_data=False),
            "image files": self.tensor(files, "BYTES", "image"),
            "image files, one a row": self.tensor(files.reshape(-1, 1), "BYTES", "image"),
        }
        outputs = [None, [], *([http.InferRequestedOutput("probabilities", binary_data=b)] for b in (True, False))]
        for form, inputs in requests.items():
            for wanted in outputs:
                with self.subTest(form, wanted=wanted):
                    result = self.client.infer(self.model, inputs, outputs=wanted)
                    found = result.as_numpy("probabilities")
                    self.assertEqual(found.dtype, np.float32)
                    np.testing.assert_array_equal(found, self.expected)
                    self.assertEqual(result.get_response()["model_name"], self.model)

    def test_fractions_agree_in_json_and_binary(self) -> None:
        data = (self.pixels * 0.99).astype(np.float32)
        answers = [self.client.infer(self.model, self.tensor(data, binary_data=b)) for b in (True, False)]
        np.testing.assert_array_equal(*(answer.as_numpy("probabilities") for answer in answers))

    def test_a_body_that_is_one_tensor(self) -> None:
        headers = {"Inference-Header-Content-Length": "0"}
        image = self.pixels[0]
        for body in (image.astype(np.float32).tobytes(), image.tobytes(), png(image)):
            request = urllib.request.Request(f"{URL}/v2/models/{self.model}/infer", body, headers)
            with urllib.request.urlopen(request) as answer:
                length = int(answer.headers["Inference-Header-Content-Length"])
                result = self.client.parse_response_body(answer.read(), header_length=length)
            np.testing.assert_array_equal(result.as_numpy("probabilities"), self.expected[:1])

    def test_classification(self) -> None:
        for binary in (True, False):
            wanted = [http.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
            found = self.client.infer(self.model, self.floats(), outputs=wanted).as_numpy("probabilities")
            self.assertEqual(found.shape, (3, min(3, self.classes)))
            for row, expected in zip(found, self.expected):
                texts = [text.decode() if isinstance(text, bytes) else text for text in row]
                values, indices, _ = zip(*(text.split(":", 2) for text in texts))
                self.assertEqual([int(index) for index in indices], list(np.argsort(-expected)[:len(row)]))
                self.assertEqual([np.float32(value) for value in values], list(np.sort(expected)[::-1][:len(row)]))

    def test_ids_and_parameters(self) -> None:
        result = self.client.infer(self.model, self.floats(), request_id="seven", priority=1, timeout=1000,
                                   parameters={"anything": "goes"})
        self.assertEqual(result.get_response()["id"], "seven")

    def test_async_requests(self) -> None:
        pending = [self.client.async_infer(self.model, self.tensor(self.pixels[i % 3][None].astype(np.float32)))
                   for i in range(60)]
        for i, request in enumerate(pending):
            found = request.get_result().as_numpy("probabilities")
            np.testing.assert_array_equal(found[0], self.expected[i % 3])

    def test_the_client_of_asyncio(self) -> None:
        async def ask() -> np.ndarray:
            async with aio.InferenceServerClient(URL.removeprefix("http://")) as client:
                return (await client.infer(self.model, self.floats())).as_numpy("probabilities")

        np.testing.assert_array_equal(asyncio.run(ask()), self.expected)

    def test_statistics(self) -> None:
        def count() -> dict:
            return self.client.get_inference_statistics(self.model)["model_stats"][0]

        before = count()
        self.client.infer(self.model, self.floats())
        after = count()
        self.assertEqual(after["inference_count"] - before["inference_count"], 3)
        self.assertGreater(after["execution_count"], before["execution_count"])
        for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            self.assertEqual(set(after["inference_stats"][part]), {"count", "ns"})
        self.assertEqual(self.client.get_inference_statistics()["model_stats"][0]["name"], self.model)

    def test_repository(self) -> None:
        index = self.client.get_model_repository_index()
        self.assertEqual({(line["name"], line["state"]) for line in index}, {(self.model, "READY")})
        self.client.load_model(self.model)
        self.assertTrue(self.client.is_model_ready(self.model))
        self.refused("`config`", self.client.load_model, self.model, config="{}")
        self.refused("always loaded", self.client.unload_model, self.model)

    def test_compression_is_refused_or_not_used(self) -> None:
        for algorithm in ("gzip", "deflate"):
            self.refused("content encoding", self.client.infer, self.model, self.floats(),
                         request_compression_algorithm=algorithm)
            result = self.client.infer(self.model, self.floats(), response_compression_algorithm=algorithm)
            np.testing.assert_array_equal(result.as_numpy("probabilities"), self.expected)

    def test_mistakes_come_back_with_our_text(self) -> None:
        floats = self.pixels.astype(np.float32)
        infer, model = self.client.infer, self.model
        self.refused("there is no model", infer, "another", self.floats())
        self.refused("\"data\" is unknown; send \"pixels\"", infer, model, self.tensor(floats, name="data"))
        self.refused("expected [n, ", infer, model, self.tensor(floats.transpose(0, 3, 1, 2)))
        self.refused("FP64; expected FP32", infer, model, self.tensor(floats.astype(np.float64), "FP64"))
        self.refused("pixels go from 0 to 255", infer, model, self.tensor(floats * 2 - 300))
        self.refused("it takes one", infer, model, self.floats() + self.floats())
        self.refused("\"logits\" is unknown", infer, model, self.floats(),
                     outputs=[http.InferRequestedOutput("logits")])
        most = self.client.get_model_config(model)["max_batch_size"]
        self.refused("the limit is", infer, model, self.tensor(np.zeros([most + 1, *self.image], np.uint8), "UINT8"))
        self.refused("image 1 of 2", infer, model, self.tensor(np.array([b"a", b"b"], np.object_), "BYTES", "image"))
        shared = http.InferInput("pixels", list(floats.shape), "FP32")
        shared.set_shared_memory("region", floats.nbytes)
        self.refused("shared memory", infer, model, [shared])


if __name__ == "__main__":
    URL = sys.argv.pop()
    unittest.main()
