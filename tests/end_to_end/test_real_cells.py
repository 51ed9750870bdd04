"""512 cells of C-NMC with VGG16's real weights, five folds of subjects: the numbers are right."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from end_to_end.conftest import QUICKSTART, Run, read_table
from scipy import special, stats
from sklearn import metrics
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from alljax.cli import main
from alljax.config import default_config
from alljax.data.images import decode
from alljax.data.protocols import balanced_folds
from alljax.features.texture import texture_features

TRIAL = "vgg16-adam"


@pytest.fixture(scope="module")
def real_study(tmp_path_factory: pytest.TempPathFactory, cnmc_zip: Path, vgg16_weights: Path) -> tuple[Path, list[str]]:
    """The folder of the study and its settings."""
    folder = tmp_path_factory.mktemp("real") / "study"
    settings = [f"--config.data.source={cnmc_zip}", f"--config.weights.path={vgg16_weights}"]
    command = [QUICKSTART + ":cnmc", *settings, "--config.data.allow_partial=true"]
    assert main(["study", *command, f"--workdir={folder}"]) == 0
    return folder, command


@pytest.mark.real
def test_real_cells_with_real_weights_agree_with_scikit_learn(
    real_study: tuple[Path, list[str]], tmp_path: Path, run: Run
) -> None:
    """512 cells of C-NMC, VGG16, five folds: the AUC is that of a logistic regression on the same features and folds.

    The features are those of PyTorch (tests/parity/make_real_features.py).
    """
    folder, command = real_study
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["dataset"]["images"] == 512
    assert summary["dataset"]["by_class"]["all"]["images"] == 448
    assert summary["leaks"]["subject"] == 0

    assert run("features", *command, f"--out={tmp_path / 'features.npz'}")[0] == 0
    stored = np.load(tmp_path / "features.npz")
    row_of = {Path(path).name: row for row, path in enumerate(stored["paths"])}
    golden = np.load(Path(__file__).parents[1] / "parity/real_features.npz")
    features = stored["features"][[row_of[Path(path).name] for path in golden["paths"]]]
    assert np.abs(features - golden["features"]).max() < 1e-4 * np.abs(golden["features"]).max()

    scores = np.zeros(512)
    for fold in range(5):
        rows: dict[str, list[int]] = {"train": [], "test": []}
        for row in read_table(folder / "split.csv"):
            if row["fold"] == str(fold):
                rows[row["subset"]].append(row_of[Path(row["path"]).name])
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
        model.fit(stored["features"][rows["train"]], stored["labels"][rows["train"]])
        scores[rows["test"]] = model.predict_proba(stored["features"][rows["test"]])[:, 1]
    reference = roc_auc_score(stored["labels"], scores)
    for trial in summary["trials"].values():
        assert trial["pooled_auc"] == pytest.approx(reference, abs=0.05)


@pytest.mark.real
def test_texture_and_svm_agree_with_scikit_learn(cnmc_zip: Path, tmp_path: Path) -> None:
    """The probabilities of a fold increase with scikit-learn's decision values on the same features."""
    settings = {
        "data.source": cnmc_zip, "data.allow_partial": True, "features.extractor": "texture", "study.sweep": "",
        "features.select": "standardize,pca", "classifier.name": "svm", "report.images": False,
    }  # fmt: skip
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    assert main(["study", QUICKSTART + ":cnmc", *words, f"--workdir={tmp_path}"]) == 0
    table = pandas.read_csv(tmp_path / "trials/texture-svm/predictions.csv").query("seed == 0").set_index("path")
    with zipfile.ZipFile(cnmc_zip) as archive:
        files = {Path(name).name: name for name in archive.namelist()}
        cells = {path: decode(archive.read(files[Path(path).name]), path) for path in table.index}
    features = {path: texture_features(pixels, default_config()) for path, pixels in cells.items()}
    decisions, split = pandas.Series(0.0, table.index), pandas.read_csv(tmp_path / "split.csv")
    for _, rows in split.groupby("fold"):
        train, test = (rows[rows["subset"] == subset] for subset in ("train", "test"))
        model = make_pipeline(StandardScaler(), PCA(0.95, svd_solver="full"), SVC())
        model.fit([features[path] for path in train["path"]], train["label"] == "all")
        decisions[test["path"]] = model.decision_function([features[path] for path in test["path"]])
        assert stats.spearmanr(decisions[test["path"]], table["prob_all"][test["path"]]).statistic > 0.999
    found = json.loads((tmp_path / "trials/texture-svm/metrics.json").read_text())["auc"]
    assert found == pytest.approx(within_folds(table.assign(prob_all=decisions)), abs=2e-3)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Features .* are constant", "ignore:invalid value")  # of SelectKBest
def test_classifiers_of_real_features_agree_with_scikit_learn(
    cnmc_zip: Path, vgg16_weights: Path, tmp_path: Path, run: Run
) -> None:
    """VGG16's features of 512 cells, selected and classified with subjects held out: scikit-learn's probabilities."""
    every, best = ("standardize",), ("anova", "standardize")
    rows = (every, "logistic"), (every, "knn"), (best, "logistic"), (best, "knn"), (best, "linear")
    settings = {
        "data.source": cnmc_zip, "data.allow_partial": True, "weights.path": vgg16_weights, "features.keep": 100,
        "study.seeds": 1, "evaluation.inner_folds": 0, "report.images": False,
        "train.learning_rate": 1e-2, "study.sweep": ((("features.select", "classifier.name"), rows),),
    }  # fmt: skip
    command = [QUICKSTART + ":cnmc", *(f"--config.{key}={value}" for key, value in settings.items())]
    assert run("study", *command, f"--workdir={tmp_path / 'study'}")[0] == 0
    assert run("features", *command, f"--out={tmp_path / 'features.npz'}")[0] == 0
    stored = np.load(tmp_path / "features.npz")
    row_of = {path: row for row, path in enumerate(stored["paths"])}
    split, expected = pandas.read_csv(tmp_path / "study/split.csv"), np.zeros((5, 512))
    for _, fold in split.groupby("fold"):
        train, test = ([row_of[path] for path in fold["path"][fold["subset"] == side]] for side in ("train", "test"))
        for number in range(5):
            steps = [StandardScaler(), KNeighborsClassifier() if number % 2 else LogisticRegression()]
            model = make_pipeline(*([SelectKBest(k=100)] if number > 1 else []), *steps)
            model.fit(stored["features"][train], stored["labels"][train])
            expected[number, test] = model.predict_proba(stored["features"][test])[:, 1]
    for trial, probabilities in zip(json.loads((tmp_path / "study/trials.json").read_text()), expected, strict=True):
        table = pandas.read_csv(tmp_path / f"study/trials/{trial['name']}/predictions.csv")
        theirs = probabilities[table["path"].map(row_of)]
        if trial["config"]["classifier.name"] == "linear":  # the same model, but stopped early instead of regularized
            assert stats.spearmanr(table["prob_all"], theirs).statistic > 0.9
        else:
            np.testing.assert_allclose(table["prob_all"], theirs, atol=1e-4)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Features .* are constant", "ignore:invalid value")  # of SelectKBest
def test_salp_swarm_and_svm_agree_with_scikit_learn(
    cnmc_zip: Path, vgg16_weights: Path, tmp_path: Path, run: Run
) -> None:
    """On VGG16's features: the swarm has found better ones, of which the SVM makes what scikit-learn makes."""
    settings = {
        "data.source": cnmc_zip, "weights.path": vgg16_weights, "data.allow_partial": True, "study.sweep": "",
        "features.select": "standardize,anova,salp_swarm", "features.keep": 200, "features.iterations": 10,
        "classifier.name": "svm", "study.seeds": 1, "evaluation.inner_folds": 2, "report.images": False,
    }  # fmt: skip
    command = [QUICKSTART + ":cnmc", *(f"--config.{key}={value}" for key, value in settings.items())]
    assert main(["study", *command, f"--workdir={tmp_path / 'study'}"]) == 0
    assert run("features", *command, f"--out={tmp_path / 'features.npz'}")[0] == 0
    stored = np.load(tmp_path / "features.npz")
    rows = {path: row for row, path in enumerate(stored["paths"])}
    subjects = np.unique(stored["subjects"], return_inverse=True)[1]
    (trial,) = (tmp_path / "study/trials").iterdir()
    selections = np.load(trial / "checkpoint/selections.npz")
    for fold, tested in pandas.read_csv(trial / "predictions.csv").groupby("fold"):
        test = tested["path"].map(rows).to_numpy()
        train = np.setdiff1d(np.arange(512), test)
        labels, known = stored["labels"][train], stored["features"][train]
        scaler = StandardScaler().fit(known)
        known, unseen = scaler.transform(known), scaler.transform(stored["features"][test])
        best = SelectKBest(f_classif, k=200).fit(known, labels).get_support(indices=True)
        assert selections[f"{fold}/1.0.columns"].tolist() == best.tolist()
        kept = best[selections[f"{fold}/2.0.columns"]]
        decisions = SVC().fit(known[:, kept], labels).decision_function(unseen[:, kept])
        assert stats.spearmanr(decisions, tested["prob_all"]).statistic > 0.999
        inner = PredefinedSplit(balanced_folds(labels, subjects[train], 5, seed=0))
        all_right, right = (
            cross_val_score(RidgeClassifier(), known[:, columns], labels, cv=inner) for columns in (best, kept)
        )
        assert right.mean() > all_right.mean()


@pytest.mark.real
def test_preliminary_cells(real_study: tuple[Path, list[str]], cnmc_zip: Path, tmp_path: Path, run: Run) -> None:
    """An external test; `predict` gives the same probabilities; `explain` finds the evidence in the cell."""
    folder, _ = real_study
    assert run("evaluate", f"--workdir={folder}", f"--source={cnmc_zip}")[0] == 0
    external = json.loads((folder / "external/C-NMC_Leukemia/metrics.json").read_text())
    assert (external["images"], len(external["left_out"])) == ([4, 10], 512)
    tested = read_table(folder / "external/C-NMC_Leukemia/predictions.csv")
    found = roc_auc_score([row["label"] == "all" for row in tested], [float(row["prob_all"]) for row in tested])
    assert external["ensemble"]["auc"] == pytest.approx(found)

    with zipfile.ZipFile(cnmc_zip) as archive:
        names = [name for name in archive.namelist() if "test_prelim_phase_data/" in name and name.endswith(".bmp")]
        cells = [Path(archive.extract(name, tmp_path)) for name in names]
    assert run("predict", f"--workdir={folder}", *cells, f"--out={tmp_path / 'p.csv'}")[0] == 0
    predicted = {Path(row["path"]).name: float(row["prob_all"]) for row in read_table(tmp_path / "p.csv")}
    expected = {Path(row["path"]).name: float(row["prob_all"]) for row in tested}
    assert predicted == pytest.approx(expected, abs=1e-5)

    assert run("explain", f"--workdir={folder}", *cells[:10], f"--out={tmp_path / 'explained'}")[0] == 0
    shares = pandas.read_csv(tmp_path / "explained/images.csv")
    assert len(shares) == len([*(tmp_path / "explained/images").iterdir()]) == 10
    assert shares["grad_cam_inside"].mean() > 1.5 * shares["cell_area"].mean()


def within_folds(table: pandas.DataFrame) -> float:
    """Returns the AUC over pairs of images of the same fold, by scikit-learn."""
    areas, pairs = [], []
    for _, fold in table.groupby("fold"):
        positive = fold["label"] == "all"
        if 0 < positive.sum() < len(fold):
            areas.append(metrics.roc_auc_score(positive, fold["prob_all"]))
            pairs.append(positive.sum() * (~positive).sum())
    return float(np.average(areas, weights=pairs))


def accuracy(table: pandas.DataFrame, shares: pandas.Series) -> float:
    """Returns the accuracy with the given share of each class."""
    right = (table["label"] == table["predicted"]).groupby(table["label"]).mean()
    return float((right * shares).sum())


def jackknife(table: pandas.DataFrame, metric: str, level: float = 0.95) -> list[float]:
    """Returns the interval of docs/explanation/intervals.md; the metric is averaged over seeds."""
    shares = table["label"].value_counts(normalize=True)

    def value(part: pandas.DataFrame) -> float:
        seeds = [of_seed for _, of_seed in part.groupby("seed")]
        return float(np.mean([accuracy(one, shares) if metric == "accuracy" else within_folds(one) for one in seeds]))

    subjects = table[table["seed"] == 0].groupby("subject")["label"].agg(["first", "size"])
    subjects["without"] = [value(table[table["subject"] != subject]) for subject in subjects.index]
    variances, squares = 0.0, 0.0
    for _, of_class in subjects.groupby("first"):
        count, without = len(of_class), of_class["without"]
        variance = (count - 1) / count * ((without - without.mean()) ** 2).sum()
        effective = of_class["size"].sum() ** 2 / (of_class["size"] ** 2).sum()
        variances, squares = variances + variance, squares + variance**2 / (effective - 1)
    quantile = stats.t.ppf((1 + level) / 2, max(1, variances**2 / squares))
    center = value(table)
    half = quantile * np.sqrt(variances) / (center * (1 - center))
    return [float(special.expit(special.logit(center) + sign * half)) for sign in (-1, 1)]


@pytest.mark.real
def test_numbers_of_the_real_study_equal_an_independent_computation(real_study: tuple[Path, list[str]]) -> None:
    folder, _ = real_study
    found = json.loads((folder / f"trials/{TRIAL}/metrics.json").read_text())
    evaluation = json.loads((folder / "evaluation.json").read_text())["trials"][TRIAL]
    types = {"path": str, "subject": str}
    table = pandas.read_csv(folder / f"trials/{TRIAL}/predictions.csv", dtype=types)
    table["prob_all"] = table["prob_all"] / (table["prob_all"] + table["prob_hem"])
    of_seeds = [one for _, one in table.groupby("seed")]
    assert len(of_seeds) == 3
    assert all(len(one) == 512 for one in of_seeds)
    expected = {
        "accuracy": [metrics.accuracy_score(one["label"], one["predicted"]) for one in of_seeds],
        "macro_recall": [metrics.balanced_accuracy_score(one["label"], one["predicted"]) for one in of_seeds],
        "macro_f1": [metrics.f1_score(one["label"], one["predicted"], average="macro") for one in of_seeds],
        "mcc": [metrics.matthews_corrcoef(one["label"], one["predicted"]) for one in of_seeds],
        "brier": [metrics.brier_score_loss(one["label"] == "all", one["prob_all"]) for one in of_seeds],
        "auc": [within_folds(one) for one in of_seeds],
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(np.mean(values), abs=1e-6), name
    prevalence = np.mean(of_seeds[0]["label"] == "all")
    scaled = 1 - np.mean(expected["brier"]) / (prevalence * (1 - prevalence))
    assert found["brier_scaled"] == pytest.approx(scaled, abs=1e-5)
    for name in ("accuracy", "auc"):
        assert found["intervals"][name] == pytest.approx(jackknife(table, name), abs=1e-5), name

    odds = special.logit(table["prob_all"].to_numpy().clip(2**-23, 1 - 2**-23))[:, None]
    slope = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(odds, table["label"] == "all").coef_.item()
    assert evaluation["calibration"]["slope"] == pytest.approx(slope, rel=1e-4)
    assert slope < 0.7, "the heads are overconfident"
    assert evaluation["calibration"]["brier"] == pytest.approx(found["brier"])

    mean = (
        table.groupby("path")[["prob_all", "prob_hem"]].mean().join(of_seeds[0].set_index("path")[["subject", "label"]])
    )
    mean["odds"] = np.log(mean["prob_all"] / (1 - mean["prob_all"]))
    subjects = mean.groupby("subject").agg(label=("label", "first"), odds=("odds", "mean"))
    right = (subjects["odds"] > 0) == (subjects["label"] == "all")
    recalls = right.groupby(subjects["label"]).mean()
    of_classes = evaluation["subjects"]["per_class"]
    assert [of_class["recall"] for of_class in of_classes] == [recalls["hem"], recalls["all"]]
    assert [of_class["count"] for of_class in of_classes] == [16, 31]
    assert recalls["all"] > 0.9 > 0.5 > recalls["hem"]
    assert evaluation["subjects"]["pooled_auc"] == pytest.approx(
        metrics.roc_auc_score(subjects["label"] == "all", subjects["odds"])
    )
