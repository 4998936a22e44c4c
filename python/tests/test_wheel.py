"""The installed module beside the program: the same files, the same answers."""


import json
import math
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import numpy as np
import ocelli
from PIL import Image, ImageDraw

PROGRAM = os.environ["OCELLI"]
MODELS = ["fashion-mnist", "imagenet"]


def picture(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """Shapes on a gradient."""
    chance = random.Random(seed)
    rows = np.linspace(0, 255, height)[:, None, None]
    columns = np.linspace(0, 255, width)[None, :, None]
    tint = np.array([chance.random() for _ in range(3)])
    image = Image.fromarray(np.uint8((rows * tint + columns * (1 - tint)) * 0.99))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = chance.randrange(width), chance.randrange(height)
        colour = tuple(chance.randrange(256) for _ in range(3))
        draw.ellipse((x, y, x + chance.randrange(5, 80), y + chance.randrange(5, 80)), fill=colour)
    return image


def write_images(folder: Path) -> list[Path]:
    """One image a format and a kind of pixels."""
    turned = Image.Exif()
    turned[0x0112] = 6
    gray = np.uint16(np.asarray(picture(3).convert("L"))) * 257
    with_alpha = picture(4).convert("RGBA")
    with_alpha.putalpha(Image.linear_gradient("L").resize(with_alpha.size))
    files = {
        "rgb.png": (picture(1), {}),
        "gray.png": (picture(2).convert("L"), {}),
        "gray16.png": (Image.fromarray(gray), {}),
        "alpha.png": (with_alpha, {}),
        "palette.png": (picture(5).quantize(32), {}),
        "plain.jpg": (picture(6), {"quality": 90}),
        "turned.jpg": (picture(7), {"exif": turned}),
        "lossless.webp": (picture(8), {"lossless": True}),
        "rgb.bmp": (picture(9), {}),
        "palette.gif": (picture(10).quantize(64), {}),
        "rgb.tiff": (picture(11), {}),
        "small.png": (picture(12, 9, 31), {}),
    }
    for name, (image, options) in files.items():
        image.save(folder / name, **options)
    return [folder / name for name in files]


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    scaled = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return scaled / scaled.sum(-1, keepdims=True)


def answers(predictions: "list[ocelli.Prediction]") -> list[dict]:
    return [prediction.to_dict() for prediction in predictions]


class WithModels(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.files = write_images(cls.folder)
        cls.models = {name: ocelli.load(name) for name in MODELS}
        cls.fashion, cls.imagenet = (cls.models[name] for name in MODELS)


class TestAnswers(WithModels):
    def test_equal_the_command_line(self) -> None:
        for name, model in self.models.items():
            command = [PROGRAM, "predict", "--json", "--top-k", "3", "--model", name, *self.files]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            self.assertEqual(len(lines), len(self.files))
            for line, file in zip(lines, self.files):
                told = json.loads(line)
                self.assertEqual(told.pop("path"), str(file))
                self.assertEqual((told.pop("schema"), told.pop("type")), (1, "prediction"))
                self.assertEqual(model.predict(file, top_k=3).to_dict(), told, file.name)

    def test_are_the_same_for_a_path_its_bytes_and_in_a_list(self) -> None:
        expected = answers([self.imagenet.predict(file) for file in self.files])
        for given in (
            [str(file) for file in self.files],
            [file.read_bytes() for file in self.files],
            tuple(bytearray(file.read_bytes()) for file in self.files),
            [np.fromfile(file, np.uint8) for file in self.files],
            [memoryview(file.read_bytes()) for file in self.files],
        ):
            self.assertEqual(answers(self.imagenet.predict(given)), expected)
        self.assertEqual(self.imagenet.predict([]), [])

    def test_have_attributes_and_a_text(self) -> None:
        prediction = self.imagenet.predict(self.files[0], top_k=2)
        self.assertEqual(prediction.label, self.imagenet.classes[prediction.index])
        self.assertEqual([prediction.label, 2], [prediction.top[0].label, len(prediction.top)])
        self.assertIsNone(prediction.labels)
        self.assertIn(repr(prediction.label)[1:-1], repr(prediction))
        self.assertEqual(len(self.fashion.predict(self.files[0], top_k=99).top), 10)

    def test_of_a_wheel_are_of_the_program_of_its_version(self) -> None:
        told = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout
        self.assertIn(ocelli.__version__, told.split())


class TestPixels(WithModels):
    def test_are_those_of_the_file(self) -> None:
        for name in ["rgb.png", "gray.png", "gray16.png", "rgb.bmp", "rgb.tiff", "lossless.webp", "small.png"]:
            for model in self.models.values():
                file = self.folder / name
                pixels = np.asarray(Image.open(file))
                expected = model.predict(file).to_dict()
                self.assertEqual(model.predict(pixels).to_dict(), expected, name)
                gray = pixels[..., None] if pixels.ndim == 2 else pixels
                self.assertEqual(model.predict(gray).to_dict(), expected, name)
                # Strides of all kinds.
                self.assertEqual(model.predict(np.asfortranarray(pixels)).to_dict(), expected, name)
                self.assertEqual(model.predict(pixels[::-1].copy()[::-1]).to_dict(), expected, name)

    def test_of_several_images_are_an_array(self) -> None:
        batch = np.stack([np.asarray(picture(seed)) for seed in range(5)])
        expected = answers([self.imagenet.predict(image) for image in batch])
        self.assertEqual(answers(self.imagenet.predict(batch)), expected)
        self.assertEqual(answers(self.imagenet.predict(list(batch))), expected)
        self.assertEqual(self.imagenet.predict(batch[:0]), [])

    def test_of_pil_are_those_of_the_file(self) -> None:
        for name in ["rgb.png", "gray.png", "gray16.png", "alpha.png", "palette.png", "palette.gif"]:
            file = self.folder / name
            with Image.open(file) as image:
                found = self.imagenet.predict(image).to_dict()
            self.assertEqual(found, self.imagenet.predict(file).to_dict(), name)
        # PIL's decoder of JPEG differs in the last bits; upright it is, too.
        file = self.folder / "turned.jpg"
        with Image.open(file) as image:
            found, expected = self.imagenet.probabilities(image), self.imagenet.probabilities(file)
        self.assertLess(abs(found - expected).max(), 0.05)


class TestNumbers(WithModels):
    def test_probabilities_are_of_all_classes(self) -> None:
        for model in self.models.values():
            rows = model.probabilities(self.files)
            self.assertEqual((rows.shape, rows.dtype), ((len(self.files), len(model.classes)), np.float32))
            np.testing.assert_allclose(rows.sum(1), 1, atol=1e-4)
            for row, file in zip(rows, self.files):
                np.testing.assert_array_equal(row, model.probabilities(file))
                for ranked in model.predict(file).top:
                    self.assertEqual(row[ranked.index], np.float32(ranked.probability))
            rows[0, 0] = 2.0

    def test_logits_of_prepared_images_give_the_probabilities(self) -> None:
        for model in self.models.values():
            pre = model.preprocessing
            x = model.prepare(self.files)
            self.assertEqual(x.shape, (len(self.files), pre.height, pre.width, pre.channels))
            logits = model.logits(x)
            expected = model.probabilities(self.files)
            np.testing.assert_allclose(softmax(logits, model.temperature or 1.0), expected, atol=1e-6)
            np.testing.assert_array_equal(model.logits(x[3]), logits[3])
            np.testing.assert_array_equal(model.logits(np.asfortranarray(x)), logits)
            self.assertEqual(model.logits(x[:0]).shape, (0, len(model.classes)))

    def test_features_do_not_depend_on_the_batch(self) -> None:
        rows = self.imagenet.embed(self.files)
        self.assertEqual(rows.shape, (len(self.files), 1280))
        np.testing.assert_array_equal(self.imagenet.embed(self.files[2]), rows[2])

    def test_without_numpy_they_are_lists(self) -> None:
        code = (
            "import sys; sys.modules['numpy'] = None\n"
            "import json, ocelli\n"
            "model = ocelli.load('fashion-mnist')\n"
            "file = sys.argv[1]\n"
            "print(json.dumps([model.embed(file), model.probabilities([file, file]), model.prepare(file)]))"
        )
        command = [sys.executable, "-c", code, self.files[0]]
        features, rows, x = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        np.testing.assert_array_equal(np.float32(features), self.fashion.embed(self.files[0]))
        np.testing.assert_array_equal(np.float32(rows[1]), self.fashion.probabilities(self.files[0]))
        np.testing.assert_array_equal(np.float32(x), self.fashion.prepare(self.files[0]))


class TestThreads(WithModels):
    def test_two_at_once_get_the_same_answers(self) -> None:
        for model in self.models.values():
            expected = answers([model.predict(file) for file in self.files])
            found: list[list[dict]] = []

            def ask() -> None:
                for _ in range(3):
                    found.append(answers([model.predict(file) for file in self.files]))

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(found, [expected] * 6)

    def test_others_run_meanwhile(self) -> None:
        # One that Python switches to only if the lock is free: within a call that kept it, it would not run once.
        turns, done = [], threading.Event()

        def count() -> None:
            while not done.is_set():
                turns.append(time.monotonic())
                time.sleep(0.001)

        counter = threading.Thread(target=count)
        counter.start()
        start = time.monotonic()
        self.imagenet.predict(self.files * 4)
        end = time.monotonic()
        done.set()
        counter.join()
        # Not those at either end, before the call has begun and after it is over.
        within = [turn for turn in turns if start < turn < end]
        self.assertGreater(len(within), 10)

    @unittest.skipUnless("fork" in multiprocessing.get_all_start_methods(), "no fork here")
    def test_a_forked_process_is_told_so(self) -> None:
        child = os.fork()
        if child == 0:
            try:
                self.fashion.predict(self.files[0])
            except ocelli.OcelliError as error:
                os._exit(0 if "spawn" in str(error) else 1)
            os._exit(2)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


class TestMistakes(WithModels):
    def refused(self, text: str, call, error: type = ocelli.OcelliError) -> None:
        with self.assertRaises(error) as raised:
            call()
        self.assertIn(text, str(raised.exception))

    def test_in_images(self) -> None:
        predict = self.fashion.predict
        damaged = self.files[0].read_bytes()[:500]
        self.assertTrue(issubclass(ocelli.OcelliError, ValueError))
        for text, given in [
            ("empty", b""),
            ("", b"nothing that looks like an image"),
            ("PNG", damaged),
            ("nowhere.png: No such file", "nowhere.png"),
            ("image 1: ", [self.files[0], damaged]),
            ("several images in a list", [np.zeros((2, 3, 3, 3), np.uint8)]),
            ("type \"d\"", np.zeros((4, 4, 3), np.float64)),
            ("[h, w]", np.zeros((1, 1, 1, 1, 1), np.uint8)),
            ("", np.zeros((0, 4, 3), np.uint8)),
            ("", np.zeros((4, 4, 7), np.uint8)),
            ("300 channels", np.zeros((4, 4, 300), np.uint8)),
        ]:
            with self.subTest(text):
                self.refused(text, lambda: predict(given))
        for nothing in [None, 7, object(), {"a": 1}]:
            self.refused("is no image", lambda: predict(nothing), TypeError)
        self.refused("top_k", lambda: predict(self.files[0], top_k=0))

    def test_in_tensors(self) -> None:
        logits, x = self.fashion.logits, self.fashion.prepare(self.files[0])
        self.refused("[28, 28, 1]", lambda: logits(x[:5]))
        self.refused("float32", lambda: logits(x.astype(np.float64)))
        self.refused("float32", lambda: logits("text"), TypeError)

    def test_in_models(self) -> None:
        text = self.folder / "text.ocelli"
        text.write_text("no model\n", encoding="utf-8")
        self.refused("nowhere.ocelli", lambda: ocelli.load("nowhere.ocelli"))
        self.refused("text.ocelli", lambda: ocelli.load(text))
        self.refused("best.ocelli", lambda: ocelli.load(self.folder))
        self.refused("f32", lambda: ocelli.load("fashion-mnist", precision="f64"))
        self.refused("int8", lambda: ocelli.load("fashion-mnist", precision="int8"))
        self.refused("mirror", lambda: ocelli.load("fashion-mnist", tta=True))
        self.refused("", lambda: ocelli.load(7), TypeError)


class TestModels(WithModels):
    def test_say_what_they_are(self) -> None:
        model = self.imagenet
        pre = model.preprocessing
        self.assertEqual((len(model.classes), pre.channels, len(pre.mean)), (1000, 3, 3))
        self.assertEqual(len(model.version), 12)
        self.assertIn(model.version, repr(model))
        self.assertGreater(model.parameters, 4_000_000)
        self.assertFalse(model.multi_label)
        self.assertTrue(pre.fit in ("stretch", "crop", "pad") and math.isfinite(pre.std[0]))

    def test_answer_alike_on_any_number_of_threads(self) -> None:
        one = ocelli.load("imagenet", threads=1)
        self.assertEqual((one.threads, one.version), (1, self.imagenet.version))
        self.assertEqual(answers(one.predict(self.files)), answers(self.imagenet.predict(self.files)))

    def test_are_files_and_run_folders(self) -> None:
        run = self.folder / "run"
        (run / "weights").mkdir(parents=True)
        weights = Path(__file__).resolve().parents[2] / "weights" / "fashion-mnist-keras-cnn.ocelli"
        (run / "weights" / "best.ocelli").write_bytes(weights.read_bytes())
        expected = self.fashion.predict(self.files[0]).to_dict()
        for path in (weights, str(weights), run):
            self.assertEqual(ocelli.load(path).predict(self.files[0]).to_dict(), expected)


if __name__ == "__main__":
    unittest.main()
