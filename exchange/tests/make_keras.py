#!/usr/bin/env python3
"""Makes the Keras files of exchange/tests/keras, or, with a folder as argument, large ones of keras.applications there.

Needs tensorflow-cpu (with its Keras 3), tf_keras (Keras 2) and h5py from PyPI. Beside each file NAME stands NAME.bin: pixels
as bytes, then the answers of the framework as little-endian floats; index.json says how many of each.
"""

import json
import os
import sys
import zipfile
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keras")
IMAGES = 4


def shake(model, seed, gain):
    """Weights that let every layer count: statistics that are not 0 and 1, slopes that are not 0. A gain of 2 keeps what goes
    through a ReLU as large as it was; networks of a hundred layers and no normalisation by their own images need less, or
    the smallest difference at the input becomes a large one at the end."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name = getattr(weight, "path", weight.name)
        shape = tuple(weight.shape)
        if "count" in name or "seed" in name:
            continue
        if "variance" in name:
            value = rng.uniform(0.5, 1.5, shape)
        elif "gamma" in name:
            value = rng.uniform(0.7, 1.3, shape)
        elif "kernel" in name:
            fan = shape[0] * shape[1] if "depthwise" in name else int(np.prod(shape[:-1]))
            value = rng.normal(0, (gain / max(fan, 1)) ** 0.5, shape)
        else:
            value = rng.uniform(-0.3, 0.3, shape)
        weight.assign(value.astype("float32"))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def pack(path):
    """Packs the members, which Keras stores as they are: so do people who send files, and these are smaller."""
    with zipfile.ZipFile(path) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


class Folder:
    """Files of models and their index."""

    def __init__(self, path):
        self.path = path
        self.index = []
        os.makedirs(path, exist_ok=True)

    def save(self, name, model, side, scale, head, images=IMAGES, rule=None):
        """Writes a model and what it answers; pixels times `scale` are its input."""
        shake(model, zlib.crc32(name.encode()), 2.0 if self.path == HERE else 1.0)
        rng = np.random.default_rng(1)
        shape = model.input_shape[1:]
        shape = tuple(side if size is None else size for size in shape)
        # Smooth pictures: noise alone looks the same to every deep network.
        coarse = rng.integers(0, 256, (images, 4, 4, 3)).astype("float32")
        h, w = shape[0], shape[1]
        full = tf.image.resize(coarse, (h, w), method="bilinear").numpy()
        full += rng.normal(0, 20, full.shape)
        pixels = np.clip(np.rint(full), 0, 255).astype("uint8")
        pixels = pixels[..., 0] if len(shape) == 2 else pixels[..., : shape[2]]
        answers = np.asarray(model(pixels.astype("float32") * np.float32(scale), training=False)).astype("<f4")
        path = os.path.join(self.path, name)
        model.save(path)
        with open(path + ".bin", "wb") as file:
            file.write(pixels.tobytes())
            file.write(answers.tobytes())
        entry = {"file": name, "images": images, "height": h, "width": w, "scale": scale, "head": head}
        entry["channels"] = 1 if len(shape) == 2 else shape[2]
        entry["classes"] = int(answers.shape[1])
        entry["rule"] = rule
        entry["size"] = None in model.input_shape[1:]
        self.index.append(entry)
        print(f"{name}: {os.path.getsize(path)} bytes, answers {answers[0][:4]}")

    def close(self):
        with open(os.path.join(self.path, "index.json"), "w") as file:
            json.dump(self.index, file, indent=1)
            file.write("\n")


def input_of(k, shape, **more):
    return k.layers.InputLayer(**({"shape": shape} if k is keras else {"input_shape": shape}), **more)


def tutorial(k, wide):
    layers = k.layers
    return k.Sequential([
        input_of(k, (12, 12, 3)),
        layers.RandomFlip("horizontal"),
        layers.Rescaling(1.0 / 255),
        layers.Conv2D(32 if wide else 8, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D((64 if k is tf_keras else 48) if wide else 12, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(5, activation="softmax"),
    ])


def binary(k):
    layers = k.layers
    return k.Sequential([
        input_of(k, (16, 16, 3)),
        layers.Rescaling(1.0 / 127.5, offset=-1),
        layers.SeparableConv2D(8, 3, padding="same", activation="relu"),
        layers.GlobalMaxPooling2D(),
        layers.Dense(1, activation="sigmoid"),
    ])


def several_labels(k):
    layers = k.layers
    x = inputs = k.Input((None, None, 1))
    x = layers.Resizing(8, 8)(x)
    x = layers.Normalization(mean=[100.0], variance=[2500.0])(x)
    x = layers.Conv2D(4, 3, activation="tanh")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Dense(6)(x)
    x = layers.Reshape((6,))(x)
    return k.Model(inputs, layers.Activation("sigmoid")(x))


def first_steps(k):
    layers = k.layers
    return k.Sequential([
        layers.Flatten(input_shape=(14, 14)),
        layers.Dense(12, activation="relu"),
        layers.Dense(10),
    ])


def block(k, x, filters, stride, name):
    layers = k.layers
    start = x
    x = layers.Conv2D(3 * filters, 1, use_bias=False, name=name + "_expand")(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.999, name=name + "_expand_bn")(x)
    x = layers.ReLU(6.0, name=name + "_expand_relu")(x)
    if stride == 2:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=name + "_pad")(x)
    padding = "valid" if stride == 2 else "same"
    x = layers.DepthwiseConv2D(3, strides=stride, padding=padding, use_bias=False, name=name + "_depthwise")(x)
    x = layers.BatchNormalization(name=name + "_depthwise_bn")(x)
    x = layers.ReLU(6.0, name=name + "_depthwise_relu")(x)
    x = layers.Conv2D(filters, 1, use_bias=False, name=name + "_project")(x)
    x = layers.BatchNormalization(name=name + "_project_bn")(x)
    return layers.Add(name=name + "_add")([start, x]) if start.shape == x.shape else x


def backbone(k, name, blocks):
    layers = k.layers
    x = inputs = k.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="Conv1")(x)
    x = layers.BatchNormalization(name="bn_Conv1")(x)
    x = layers.ReLU(6.0, name="Conv1_relu")(x)
    for index, (filters, stride) in enumerate([(8, 2), (8, 1)][:blocks]):
        x = block(k, x, filters, stride, f"block_{index}")
    return k.Model(inputs, x, name=name)


def transfer(k):
    layers = k.layers
    base = backbone(k, "backbone", 1)
    base.trainable = False
    x = inputs = k.Input((16, 16, 3))
    x = k.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)], name="augmentation")(x)
    x = x / 127.5 - 1.0 if k is tf_keras else layers.Rescaling(1.0 / 127.5, offset=-1)(x)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return k.Model(inputs, layers.Dense(3, activation="softmax")(x))


def teachable_machine(k):
    layers = k.layers
    base = backbone(k, "model1", 2)
    features = k.Sequential([base, layers.GlobalAveragePooling2D(name="global_average_pooling2d_GlobalAveragePooling2D1")],
                            name="sequential_1")
    head = k.Sequential([
        layers.Dense(10, activation="relu", input_shape=(8,), name="dense_Dense1"),
        layers.Dense(3, activation="softmax", use_bias=False, name="dense_Dense2"),
    ], name="sequential_3")
    return k.Sequential([features, head], name="sequential_4")


def everything(k):
    """Every layer that is supported and is not in another model."""
    layers = k.layers
    x = inputs = k.Input((20, 20, 3), name="picture")
    means = np.array([103.939, 116.779, 123.68], "float32")
    x = x[..., ::-1] - (means if k is keras else means.tolist())
    x = x * 0.02
    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(8, 7, strides=2)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Activation("relu")(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    a = layers.Conv2D(8, 3, padding="same", dilation_rate=2, activation="swish")(x)
    a = layers.BatchNormalization(center=False)(a)
    b = layers.Conv2D(8, 3, padding="same", groups=2)(x)
    b = layers.LeakyReLU(0.2)(b)
    c = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="gelu")(x)
    c = layers.Conv2D(8, 1)(c)
    c = layers.PReLU(shared_axes=[1, 2])(c)
    x = layers.Add()([a, b, c])
    # Squeeze and excitation, with the gates of networks for phones.
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Reshape((1, 1, 8))(s)
    s = layers.Conv2D(4, 1, activation="relu")(s)
    s = layers.Conv2D(8, 1, activation="hard_sigmoid")(s)
    x = layers.Multiply()([x, s])
    x = layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)])
    y = layers.AveragePooling2D(3, strides=1, padding="same")(x)
    z = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    z = layers.SpatialDropout2D(0.1)(z)
    z = layers.GaussianNoise(0.1)(z)
    x = layers.Concatenate()([x, y, z])
    x = layers.ReLU(max_value=2.0)(x)
    x = layers.Dense(12, activation="sigmoid")(x)
    x = layers.Average()([x, layers.Activation("tanh")(x)])
    x = layers.Subtract()([x, layers.Dense(12, activation="hard_sigmoid")(x)])
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(4)(x)
    return k.Model(inputs, layers.Softmax()(x))


def unsupported(k):
    layers = k.layers
    x = inputs = k.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(x)
    x = layers.Lambda(lambda value: value * 2, name="twice", output_shape=(6, 6, 4))(x)
    x = layers.UpSampling2D(name="larger")(x)
    x = layers.Conv2DTranspose(4, 3, name="transposed")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, layers.Dense(2, activation="softmax")(x))


def small():
    out = Folder(HERE)
    third = [1.0 / 255, 0.0]
    out.save("tutorial_k2.h5", tutorial(tf_keras, True), 12, 1.0, "softmax", rule=third)
    out.save("tutorial_k3.h5", tutorial(keras, False), 12, 1.0, "softmax", rule=third)
    out.save("tutorial_k2.keras", tutorial(tf_keras, False), 12, 1.0, "softmax", rule=third)
    model = tutorial(keras, True)
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    out.save("tutorial_k3.keras", model, 12, 1.0, "softmax", rule=third)
    out.save("binary_k3.keras", binary(keras), 16, 1.0, "binary", rule=[1.0 / 127.5, -1.0])
    out.save("binary_k2.h5", binary(tf_keras), 16, 1.0, "binary", rule=[1.0 / 127.5, -1.0])
    # Images that have the size already: resizing changes nothing.
    out.save("labels_k3.keras", several_labels(keras), 8, 1.0, "sigmoid", rule=[0.02, -2.0])
    out.save("first_steps_k3.h5", first_steps(keras), 14, 1.0 / 255, "logits")
    out.save("transfer_k2.h5", transfer(tf_keras), 16, 1.0, "softmax", rule=[1.0 / 127.5, -1.0])
    out.save("transfer_k3.h5", transfer(keras), 16, 1.0, "softmax", rule=[1.0 / 127.5, -1.0])
    out.save("transfer_k3.keras", transfer(keras), 16, 1.0, "softmax", rule=[1.0 / 127.5, -1.0])
    out.save("teachable_k2.h5", teachable_machine(tf_keras), 16, 1.0 / 255, "softmax")
    out.save("everything_k2.h5", everything(tf_keras), 20, 1.0, "softmax")
    out.save("everything_k3.keras", everything(keras), 20, 1.0, "softmax")
    out.close()
    for name in ["everything_k3.keras", "transfer_k3.keras"]:
        pack(os.path.join(HERE, name))
    binary(tf_keras).save_weights(os.path.join(HERE, "weights_only_k2.h5"))
    unsupported(keras).save(os.path.join(HERE, "unsupported_k3.keras"))
    unsupported(tf_keras).save(os.path.join(HERE, "unsupported_k2.h5"))


def large(path):
    out = Folder(path)
    sizes = {"Xception": 299}
    for name in ["MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "ResNet50",
                 "DenseNet121", "VGG16", "Xception", "EfficientNetV2B0", "ResNet50V2", "InceptionV3"]:
        for k, end in [(keras, "k3.keras"), (tf_keras, "k2.h5")]:
            if name == "VGG16" and k is tf_keras:
                continue
            side = sizes.get(name, 160 if name == "InceptionV3" else 224 if name == "VGG16" else 128)
            side = min(side, 160) if name == "Xception" else side
            shape = (side, side, 3)
            if name == "VGG16":
                model = k.applications.VGG16(weights=None, input_shape=(64, 64, 3), classes=100,
                                                   classifier_activation=None)
            else:
                model = getattr(k.applications, name)(weights=None, input_shape=shape, classes=100,
                                                        classifier_activation=None)
            inside = any(word in name for word in ["MobileNetV3", "EfficientNet"])
            out.save(f"{name}_{end}", model, side, 1.0 if inside else 1.0 / 127.5, "logits", images=8)
            k.backend.clear_session()
    out.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        large(sys.argv[1])
    else:
        small()
