"""How many images of no class a model calls unknown, beside the largest probability (max-softmax).

    ocelli predict RUN draw/old/test --json > known.jsonl
    ocelli predict RUN draw/new --json > others.jsonl
    python benches/peers/unknown.py known.jsonl others.jsonl     # `draw/` by draw_classes.py

Prints as JSON: the shares at the threshold in the model, and the share of the others where 5 % of the known images are called
unknown, with the area under the ROC curve, for the model's score and for one minus the largest probability.
"""

import json
import sys


def rows(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return [row for row in found if row.get("type") == "prediction"]


def area(known: list[float], others: list[float]) -> float:
    """The part of pairs of which the other image has the larger score; a tie counts half."""
    wins = sum((other > own) + 0.5 * (other == own) for other in others for own in known)
    return wins / (len(known) * len(others))


def at_five_percent(known: list[float], others: list[float]) -> float:
    threshold = sorted(known)[int(0.95 * len(known))]
    return sum(score > threshold for score in others) / len(others)


known, others = rows(sys.argv[1]), rows(sys.argv[2])
result: dict = {"known": len(known), "others": len(others)}
result["rejected"] = sum(not row["known"] for row in known) / len(known)
result["found"] = sum(not row["known"] for row in others) / len(others)
for name, score in [("score", lambda row: row["score"]), ("max_softmax", lambda row: 1 - row["probability"])]:
    own, strange = [score(row) for row in known], [score(row) for row in others]
    result[name] = {"at_5_percent": at_five_percent(own, strange), "area": area(own, strange)}
print(json.dumps(result))
