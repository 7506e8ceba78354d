"""Accuracy with 10 % of the labels, against linear discriminants on the same PCs and labels.

The discriminants see the labelled samples alone, which is all that they can use.
"""

from __future__ import annotations

import numpy as np
from common import DATA_SETS, features, machine, markdown, parser, spread, write
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ancestryvi import AncestryDDVI

SHARE = 0.1


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error of the largest probability, in ten equal bins."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [
        abs(confidence[bins == i].mean() - right[bins == i].mean()) * np.mean(bins == i)
        for i in np.unique(bins)
    ]
    return float(np.sum(gaps))


def main() -> None:
    options = parser(__doc__ or "")
    options.set_defaults(seeds=5)
    options = options.parse_args()
    rows = []
    for data_set in DATA_SETS:
        scores, populations = features(data_set, options.data)
        ours, theirs, our_error, their_error = [], [], [], []
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(scores))
            known, rest = np.split(order, [int(SHARE * len(scores))])
            labels = np.full(len(scores), None, dtype=object)
            labels[known] = populations[known]
            model = AncestryDDVI(random_state=seed).fit(scores, labels)
            right = model.predict(scores[rest]) == populations[rest]
            ours.append(right.mean())
            our_error.append(calibration_error(model.predict_proba(scores[rest]), right))
            linear = LinearDiscriminantAnalysis().fit(scores[known], populations[known])
            right = linear.predict(scores[rest]) == populations[rest]
            theirs.append(right.mean())
            their_error.append(calibration_error(linear.predict_proba(scores[rest]), right))
            print(data_set.name, seed, f"{ours[-1]:.3f} {theirs[-1]:.3f}", flush=True)
        rows.append(
            {
                "data": data_set.name,
                "labelled": int(SHARE * len(scores)),
                "**ancestryvi**": f"**{spread(ours)}**",
                "LDA": spread(theirs),
                "difference": spread(list(np.subtract(ours, theirs))),
                "seeds ahead or equal": int(np.sum(np.greater_equal(ours, theirs))),
                "calibration error": spread(our_error),
                "of LDA": spread(their_error),
            }
        )
    write(
        "semi_supervised",
        f"`python benchmarks/semi_supervised.py --seeds {options.seeds}` on {machine()}.\n\n"
        f"Accuracy on the samples without a label, {SHARE:.0%} being labelled at random; mean and "
        "95 % t-interval over seeds. LDA: scikit-learn's linear discriminant analysis on the same "
        "PCs and labels. Calibration error: expected calibration error, ten bins.\n\n"
        + markdown(rows),
    )


if __name__ == "__main__":
    main()
