"""Fits a line to the points of points.csv by gradient descent, with nothing but Python."""

import csv
import json
import os
from pathlib import Path

EPOCHS = int(os.environ.get("EPOCHS", "2000"))
RATE = 0.02

with open("points.csv", newline="") as file:
    points = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]

slope = intercept = 0.0
for epoch in range(1, EPOCHS + 1):
    errors = [slope * x + intercept - y for x, y in points]
    slope -= RATE * sum(error * x for error, (x, _) in zip(errors, points)) / len(points)
    intercept -= RATE * sum(errors) / len(points)
    if epoch % (EPOCHS // 4) == 0:
        loss = sum(error**2 for error in errors) / len(points)
        print(f"epoch {epoch:>5}  loss {loss:.4f}")

results = Path("results")
results.mkdir(exist_ok=True)
model = {"slope": round(slope, 3), "intercept": round(intercept, 3)}
(results / "model.json").write_text(json.dumps(model) + "\n")
