"""Makes scikit_learn.json: average precision, F1 and Hamming loss of random answers, by scikit-learn.

python3 scikit_learn.py > scikit_learn.json
"""
import json
import random

import numpy as np
import sklearn
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, hamming_loss

random.seed(12)
cases = []
for images, labels, digits in [(12, 3, 1), (50, 4, 2), (200, 5, 6)]:
    # Few digits make equal scores.
    scores = [[round(random.random(), digits) for _ in range(labels)] for _ in range(images)]
    has = [[int(random.random() < 0.15 + 0.6 * p) for p in row] for row in scores]
    s, h = np.array(scores, dtype=np.float32), np.array(has)
    says = (s >= np.float32(0.5)).astype(int)
    cases.append({
        "scores": scores,
        "has": has,
        "average_precision": [average_precision_score(h[:, i], s[:, i]) for i in range(labels)],
        "mean_average_precision": average_precision_score(h, s, average="macro"),
        "micro_f1": f1_score(h, says, average="micro"),
        "macro_f1": f1_score(h, says, average="macro"),
        "subset_accuracy": accuracy_score(h, says),
        "hamming_loss": hamming_loss(h, says),
    })
print(json.dumps({"scikit_learn": sklearn.__version__, "threshold": 0.5, "cases": cases}))
