"""POST /predict with FastAPI, Pillow and ONNX Runtime: what one would write instead of `ocelli serve`.

The network is keras-cnn-28, as in `ocelli_engine::zoo`, with random weights: speed does not depend on them. Start it with
`uvicorn fastapi_service:app --port 8081 --workers 2`; README.md has the rest.
"""
import io
import os

import numpy as np
import onnx
import onnxruntime
from fastapi import FastAPI, HTTPException, UploadFile
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, UnidentifiedImageError

CLASSES = [f"class {i}" for i in range(10)]


def network():
    """conv32-3, pool2, conv64-3, pool2, dense128, dense10, for gray images of 28x28."""
    rng = np.random.default_rng(1)
    shapes = {"w1": (32, 1, 3, 3), "w2": (64, 32, 3, 3), "w3": (1600, 128), "w4": (128, 10),
              "b1": (32,), "b2": (64,), "b3": (128,), "b4": (10,)}
    weights = [numpy_helper.from_array(rng.standard_normal(shape, np.float32) * 0.05, name)
               for name, shape in shapes.items()]
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]), helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"]), helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], **pool), helper.make_node("Flatten", ["p2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["g"]), helper.make_node("Relu", ["g"], ["r3"]),
        helper.make_node("Gemm", ["r3", "w4", "b4"], ["l"]), helper.make_node("Softmax", ["l"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "keras-cnn-28", [value("x", TensorProto.FLOAT, ["n", 1, 28, 28])],
                              [value("y", TensorProto.FLOAT, ["n", 10])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


options = onnxruntime.SessionOptions()
# One thread a worker: with two workers on two cores, more only get in each other's way.
options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
session = onnxruntime.InferenceSession(network(), options, providers=["CPUExecutionProvider"])
app = FastAPI()


# Not `async`: FastAPI then runs it on its pool of threads and stays answerable.
@app.post("/predict")
def predict(file: UploadFile):
    try:
        image = Image.open(io.BytesIO(file.file.read())).convert("L").resize((28, 28))
    except (UnidentifiedImageError, OSError) as error:
        raise HTTPException(422, "not an image") from error
    x = np.asarray(image, np.float32)[None, None] / 255
    probabilities = session.run(None, {"x": x})[0][0]
    best = np.argsort(-probabilities)[:5]
    top = [{"label": CLASSES[i], "index": int(i), "probability": float(probabilities[i])} for i in best]
    return {**top[0], "predictions": [{**top[0], "top": top}]}


@app.get("/status")
def status():
    return {"model": {"name": "keras-cnn-28", "version": "0", "input": {"width": 28, "height": 28, "channels": 1}}}
