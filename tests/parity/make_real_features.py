"""An independent reference on real images: PyTorch features and a logistic regression, without alljax.

    python3.11 -m venv reference && reference/bin/pip install torch==2.13.0 numpy pillow scikit-learn==1.9.1
    reference/bin/python tests/parity/make_real_features.py ../shared

Prints the AUC of a standardized logistic regression with balanced class weights over the pooled out-of-fold
predictions (5 folds over subjects), and writes the features of 16 images to real_features.npz.  No image is stored.
"""

import io
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
POOLED_AFTER = {2, 7, 14, 21, 28}
STORED = 16


def features(images: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """VGG16's convolutions and a global average: (B, 3, 224, 224) → (B, 512)."""
    for number in CONVOLUTIONS:
        images = torch.nn.functional.conv2d(
            images, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1
        ).relu()
        if number in POOLED_AFTER:
            images = torch.nn.functional.max_pool2d(images, 2)
    return images.mean((2, 3))


def main(shared: Path) -> None:
    weights = torch.load(shared / "weights/vgg16_features-torchvision.pth", weights_only=True)
    archive = zipfile.ZipFile(shared / "cnmc/C-NMC_Leukemia.zip")
    names = sorted(name for name in archive.namelist() if re.search(r"/fold_\d/(all|hem)/UID_", name))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    blocks = []
    for start in range(0, len(names), 8):
        images = [Image.open(io.BytesIO(archive.read(name))) for name in names[start : start + 8]]
        pixels = np.stack([np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR)) for image in images])
        scaled = (torch.from_numpy(pixels).float() / 255 - mean) / std
        with torch.no_grad():
            blocks.append(features(scaled.permute(0, 3, 1, 2), weights).numpy())
    matrix = np.concatenate(blocks)
    labels = np.array([name.endswith("_all.bmp") for name in names]).astype(int)
    subjects = [name.rpartition("/")[2].split("_")[1].upper() for name in names]
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
    for seed in range(5):
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        scores = cross_val_predict(model, matrix, labels, groups=subjects, cv=folds, method="predict_proba")[:, 1]
        print(f"{len(names)} images, {len(set(subjects))} subjects, folds {seed}: {roc_auc_score(labels, scores):.3f}")
    rows = np.linspace(0, len(names) - 1, STORED).astype(int)
    out = Path(__file__).with_name("real_features.npz")
    np.savez_compressed(out, paths=np.array(names)[rows], features=matrix[rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
