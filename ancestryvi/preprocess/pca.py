"""`GenotypePCA`: principal components of genotypes, exact, by blocks of variants."""

from __future__ import annotations

import re
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes.alleles import VariantMatch
from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess.decomposition import (
    EXACT_BYTES,
    ScaledDosages,
    randomised_eigenpairs,
)
from ancestryvi.preprocess.independence import leave_out_long_range, set_aside_relatives, thin
from ancestryvi.preprocess.inputs import as_indexed, is_path
from ancestryvi.preprocess.long_range_ld import REGIONS
from ancestryvi.preprocess.project import Placement, align, place
from ancestryvi.preprocess.quality import quality_control
from ancestryvi.preprocess.scaling import patterson_parameters
from ancestryvi.preprocess.shrinkage import shrinkage
from ancestryvi.preprocess.spectrum import SpikedModel, n_outstanding
from ancestryvi.preprocess.where import arithmetic

MIN_AUTO_COMPONENTS = 2
MAX_AUTO_COMPONENTS = 100
"""Range of `n_components="auto"`; more are asked for by number."""

USUAL_COMPONENTS = 50
"""Components that are looked at, and that the randomised solver iterates for; "auto" goes on to
`MAX_AUTO_COMPONENTS` where all of these are signal, as with more populations than that."""

MIN_SHARE = 1e-6
"""Share of the variance below which a component is rounding: sums of float32 products are exact to
a few times 1e-7."""

SOLVERS = ("auto", "exact", "randomized")

DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class GenotypePCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal components of genotypes: quality control, LD thinning, Patterson scaling, PCA.

    Everything is done by passes over blocks of variants (`preprocess.passes`): a file with random
    access, such as a PLINK .bed, is never held whole, and neither is the scaled matrix of any.
    Scores are U S and loadings have length 1, so that scores are the scaled dosages times the
    loadings. Missing calls count as the variant's mean.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of components. "auto" takes those that are at least half signal by their
        eigenvalue (`preprocess.spectrum.SpikedModel`), at least 2 and at most 50, or 100 where all
        50 are; no label is used. Either is lowered to the rank of the data.
    min_maf : float, default=0.02
        Smallest minor allele frequency; 0.02 is the default of bigsnpr's ``snp_autoSVD``.
    min_mac : int, default=2
        Smallest minor allele count.
    min_variant_call_rate : float, default=0.95
        Smallest share of samples called at a variant.
    min_sample_call_rate : float, default=0.9
        Samples with less are kept out of the fit; `transform` places them like new ones.
    snvs_only : bool, default=True
        Leave out insertions, deletions and symbolic alleles.
    autosomes_only : bool, default=True
        Leave out sex chromosomes and mitochondria, known by the names of the contigs
        (`preprocess.quality.is_autosomal`). They would make a component of sex.
    min_hwe_p : float, default=0
        Smallest p-value of the exact test of Hardy-Weinberg equilibrium. Off, because structure
        itself breaks the equilibrium, and most at the variants that show it.
    max_ld_r2 : float or None, default=0.2
        Variants are thinned until no two within `ld_window_kb` exceed this squared correlation;
        None keeps them all. Variants without a position (a bare matrix) are not thinned.
    ld_window_kb : float, default=500
        Distance within which variants are compared, in thousands of base pairs.
    long_range_ld : {"GRCh37", "GRCh38"} or None, default=None
        Leave out the regions of the human genome whose linkage disequilibrium reaches over
        megabases, in coordinates of this build (`preprocess.long_range_ld`). Off by default: the
        build is not in the data, nor that they are human.
    max_kinship : float or None, default=0.0884
        Samples are set aside until no pair of those fitted has a larger KING-robust kinship;
        0.0884 is the border of the second and third degree. They are placed like new samples.
        Families make components of their own. Kinship takes 2,000 variants that are left, and is
        not computed of fewer, or of more than 16,384 samples; the account says so. None fits all.
    solver : {"auto", "exact", "randomized"}, default="auto"
        "exact" makes the relationship matrix, whose memory grows with the square of the number of
        samples and whose time does too. "randomized" never forms it: block-Krylov iteration, at
        most 9 passes over the genotypes, in memory and time proportional to the samples. "auto" is
        exact as long as the matrix fits 2 GiB, which is up to 16,384 samples.
    device : str, default="auto"
        Where relationship matrix, components and loadings are computed: "cpu", or a GPU by the name
        that torch has for it, such as "cuda". "auto" takes a CUDA GPU where there is one and the
        work is more than some seconds of a CPU: 10^12 multiplications, as of 4,000 samples and
        60,000 variants. Scores of the two agree to about 1e-5 of the largest. It is the CPU in any
        case on a Dask cluster, and for "mps".

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_variants_kept), float32
        Loadings, of length 1; the largest of each is positive.
    explained_variance_ : ndarray of shape (n_components,)
        Variance of the scores of the fitted samples.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the variance of all scaled variants kept.
    spectrum_ : ndarray
        Share of variance of the leading components that were looked at, 50 as a rule, kept or not,
        for a scree plot.
    shrinkage_ : ndarray of shape (n_components,)
        How much smaller scores of new samples are than those of fitted ones, which `transform`
        makes up for.
    mean_, scale_ : ndarray of shape (n_variants_kept,)
        Patterson centre and scale of each variant kept.
    variants_ : DataFrame of n_variants_kept rows
        The variants kept: contig, position, id, ref, alt, and frequency of ALT in `frequency`.
    kept_variants_ : ndarray of shape (n_features_in_,), bool
        Which variants of the fitted genotypes were kept.
    fit_samples_ : ndarray of shape (n_samples,), bool
        Which samples the components were computed from.
    fingerprints_ : ndarray of shape (n_fit_samples,), uint64
        By which `transform` knows the fitted samples again; not their genotypes.
    sample_call_rate_ : ndarray of shape (n_samples,)
        Share of the variants that passed quality control that are called.
    qc_ : DataFrame
        The account of every filter: scope, step, before, dropped, kept, detail.
    solver_ : str
        The solver that was used.
    n_signal_ : int
        Number of components, of those looked at, that are at least half signal.
    n_structure_ : int
        Of these, the number down to the last that stands out from the noise after it; 0 where the
        samples show no structure.
    n_features_in_ : int
        Number of variants given to `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,), str
        Names of the columns; only after a fit on a DataFrame whose columns are all strings.

    References
    ----------
    Patterson, Price and Reich (2006), Population structure and eigenanalysis,
    PLoS Genetics 2(12):e190.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frequency = rng.uniform(0.1, 0.9, size=(2, 300))
    >>> X = rng.binomial(2, np.repeat(frequency, 20, axis=0))
    >>> scores = GenotypePCA(n_components=2).fit_transform(X)
    >>> scores.shape
    (40, 2)
    >>> one, other = sorted([scores[:20, 0], scores[20:, 0]], key=np.mean)
    >>> bool(one.max() < other.min())
    True
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        min_maf: float = 0.02,
        min_mac: int = 2,
        min_variant_call_rate: float = 0.95,
        min_sample_call_rate: float = 0.9,
        snvs_only: bool = True,
        autosomes_only: bool = True,
        min_hwe_p: float = 0.0,
        max_ld_r2: float | None = 0.2,
        ld_window_kb: float = 500.0,
        long_range_ld: str | None = None,
        max_kinship: float | None = 0.0884,
        solver: str = "auto",
        device: str = "auto",
    ) -> None:
        self.n_components = n_components
        self.min_maf = min_maf
        self.min_mac = min_mac
        self.min_variant_call_rate = min_variant_call_rate
        self.min_sample_call_rate = min_sample_call_rate
        self.snvs_only = snvs_only
        self.autosomes_only = autosomes_only
        self.min_hwe_p = min_hwe_p
        self.max_ld_r2 = max_ld_r2
        self.ld_window_kb = ld_window_kb
        self.long_range_ld = long_range_ld
        self.max_kinship = max_kinship
        self.solver = solver
        self.device = device

    def fit(self, X: Any, y: Any = None) -> GenotypePCA:
        """Choose variants and samples, and compute the components.

        Parameters
        ----------
        X : ndarray, DataFrame, AnnData or Genotypes of shape (n_samples, n_variants), or path(s)
            Dosages 0, 1, 2; -1 or NaN marks a missing call. Also an open source with random
            access (`genotypes.source.IndexedDosages`), such as `open_source("cohort.bed")`.
        y : ignored

        Returns
        -------
        self : GenotypePCA

        Raises
        ------
        NoVariantsError, SampleError
            If fewer than 1 variant or 2 samples pass quality control, or no samples differ.
        MemoryNeedError
            If the relationship matrix does not fit the memory of the GPU.
        InputFormatError
            If X holds something other than dosages.
        ValueError
            If `n_components` is neither "auto" nor an int of at least 1, or `solver` or `device` is
            unknown or not there.
        TypeError, ValueError
            If X is no dense numeric matrix.
        """
        self._fit(X)
        return self

    def _fit(self, X: Any) -> NDArray[np.float64]:
        """Fit, and return the scores of the samples that were fitted."""
        self._check_parameters()
        source = as_indexed(X)
        shape = (len(source.sample_ids), len(source.variants))
        columns = X if isinstance(X, pd.DataFrame) else np.broadcast_to(np.int8(0), shape)
        validate_data(self, columns, skip_check_array=True)
        report = quality_control(
            source,
            min_maf=self.min_maf,
            min_mac=self.min_mac,
            min_variant_call_rate=self.min_variant_call_rate,
            min_sample_call_rate=self.min_sample_call_rate,
            snvs_only=self.snvs_only,
            autosomes_only=self.autosomes_only,
            min_hwe_p=self.min_hwe_p,
        )
        leave_out_long_range(source, report, self.long_range_ld)
        thin(source, report, self.max_ld_r2, self.ld_window_kb)
        set_aside_relatives(source, report, self.max_kinship)
        self.kept_variants_ = report.variants
        self.fit_samples_ = report.samples
        self.sample_call_rate_ = report.sample_call_rate
        self.qc_ = report.table
        frequency = report.frequency[report.variants]
        self.variants_ = source.variants.loc[report.variants].reset_index(drop=True)
        self.variants_["frequency"] = frequency
        self.mean_, self.scale_ = patterson_parameters(frequency)
        matrix = ScaledDosages(
            np.flatnonzero(report.variants),
            np.flatnonzero(report.samples),
            self.mean_,
            self.scale_,
        )
        return self._decompose(source, matrix, report.counts.total_variance(report.variants))

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Fit, and return the scores of the same samples, as `transform` gives them but rounding.

        Without samples set aside this saves the pass over the genotypes that `transform` makes.
        """
        data = as_indexed(X) if is_path(X) else X
        scores = self._fit(data)
        return scores if self.fit_samples_.all() else self.transform(data)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """PC scores of samples of any origin, each independently of the others.

        Components follow the noise of the samples that they were computed from, so scores of new
        samples are shrunk towards 0. They are divided by `shrinkage_`, which puts them where
        fitting them jointly would have. A sample whose calls are those of a fitted sample is that
        sample, and gets the scores it had.

        A matrix has the columns of the fitted one. Genotypes with a variant table (a path, AnnData
        or Genotypes) are matched to the fitted variants by contig, position and alleles.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        scores : ndarray of shape (n_samples, n_components)
            NaN for a sample without any call at the fitted variants.

        Raises
        ------
        OverlapError
            If too few of the fitted variants are present; see `project`.
        InputFormatError
            If X holds something other than dosages, or a matrix has other columns.
        """
        return self.project(X)[0]

    def project(self, X: Any) -> tuple[NDArray[np.float64], VariantMatch]:
        """PC scores as `transform` gives them, and how the variants of X matched the fitted ones.

        Where fitted variants are absent from X, or calls are missing, scores are those to expect
        given what is there (`preprocess.project.place`): they do not shrink with every variant that
        is absent, as a plain sum would, and a sample with very few calls is in the middle.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        scores : ndarray of shape (n_samples, n_components)
        match : VariantMatch

        Raises
        ------
        OverlapError, InputFormatError
            As `transform`.
        """
        placed, match = self._placed(X, uncertain=False)
        return placed.scores, match

    def place(self, X: Any) -> tuple[Placement, VariantMatch]:
        """As `project`, and which samples were fitted, and what is missing of the others."""
        placed, match = self._placed(X, uncertain=True)
        return replace(placed, unseen=placed.unseen.over(self.shrinkage_)), match

    def _placed(self, X: Any, *, uncertain: bool) -> tuple[Placement, VariantMatch]:
        check_is_fitted(self)
        source = as_indexed(X)
        if isinstance(X, np.ndarray | pd.DataFrame):
            try:
                validate_data(self, X, reset=False, skip_check_array=True)
            except ValueError as error:
                raise InputFormatError(str(error)) from error
        match = align(self.variants_, source, self.kept_variants_)
        fitted = (self.mean_, self.scale_, self.components_, self.fingerprints_)
        noise, variance = self._noise()
        placed = place(source, match, *fitted, noise, variance if uncertain else None)
        placed.scores[~placed.fitted] /= self.shrinkage_
        return placed, match

    def _noise(self) -> tuple[NDArray[np.float64], float]:
        """Variance s of a scaled variant beside the components: over that of each new score, and s.

        Both are above 0. The variance of a new score is that of its axis and s; the sum stands
        for the former, which makes up for what linked variants say of each other: uncertainties are
        right or a little large, where without s they are too small by a tenth.
        """
        n_components, n_variants = self.components_.shape
        total = self.explained_variance_[0] / self.explained_variance_ratio_[0]
        rest = (total - self.explained_variance_.sum()) / max(1, n_variants - n_components)
        of_new = self.explained_variance_ * self.shrinkage_**2
        variance = max(rest, MIN_SHARE * of_new[0])
        return variance / of_new, variance

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns of `transform`: PC1, PC2 and so on, as in ``pcs.tsv``."""
        checked = super().get_feature_names_out(input_features)
        return np.array([f"PC{i + 1}" for i in range(len(checked))], dtype=object)

    def _requested_components(self) -> int:
        """`n_components`, or the most that "auto" may choose."""
        if isinstance(self.n_components, str) and self.n_components == "auto":
            return MAX_AUTO_COMPONENTS
        is_int = isinstance(self.n_components, Integral) and not isinstance(self.n_components, bool)
        if is_int and int(self.n_components) >= 1:
            return int(self.n_components)
        raise ValueError(
            "The 'n_components' parameter of GenotypePCA must be 'auto' or an int of at least 1. "
            f"Got {self.n_components!r} instead."
        )

    def _check_parameters(self) -> None:
        """Raise ValueError for a parameter that no data can make valid."""
        self._requested_components()
        choices = {"solver": SOLVERS, "long_range_ld": (None, *REGIONS)}
        for name, among in choices.items():
            value = getattr(self, name)
            if value not in among:
                raise ValueError(
                    f"The {name!r} parameter of GenotypePCA must be one of "
                    f"{', '.join(map(str, among))}. Got {value!r} instead."
                )
        if not DEVICES.fullmatch(str(self.device)):
            raise ValueError(
                "The 'device' parameter of GenotypePCA must be 'auto', 'cpu', 'cuda', 'cuda:1' and "
                f"so on, or 'mps'. Got {self.device!r} instead."
            )

    def _decompose(
        self, source: IndexedDosages, matrix: ScaledDosages, trace: float
    ) -> NDArray[np.float64]:
        """Eigenvectors of the relationship matrix, and from them loadings and scores."""
        n_samples, n_variants = matrix.shape
        n_components = self._requested_components()
        n_leading = min(max(n_components, USUAL_COMPONENTS), n_samples)
        n_wanted = min(USUAL_COMPONENTS if self.n_components == "auto" else n_components, n_leading)
        self.solver_ = self.solver
        if self.solver == "auto":
            self.solver_ = "exact" if 8 * n_samples**2 <= EXACT_BYTES else "randomized"
        at_once = n_samples if self.solver_ == "exact" else 10 * n_wanted
        work = arithmetic(self.device, float(n_samples) * n_variants * at_once)
        if self.solver_ == "exact":
            eigenvalues, vectors, squares = work.exact_eigenpairs(source, matrix, n_leading)
        else:
            pairs = randomised_eigenpairs(source, matrix, n_leading, n_wanted, work.product)
            eigenvalues, vectors = pairs.eigenvalues, pairs.vectors
            squares = pairs.trace_of_square
        rank = int(np.sum(eigenvalues > trace * MIN_SHARE))
        if rank == 0:
            raise SampleError(
                f"All {n_samples} samples have the same genotype at the {n_variants} variants "
                "kept, so there is no component; check the input."
            )
        for most in (USUAL_COMPONENTS, MAX_AUTO_COMPONENTS):
            leading = eigenvalues[: min(rank, most)]
            spiked = SpikedModel.of(leading, trace, squares, n_samples, n_variants)
            if spiked.n_signal < most:
                break
        self.spectrum_ = leading / trace
        self.n_signal_ = spiked.n_signal
        self.n_structure_ = n_outstanding(leading, spiked.n_signal)
        if self.n_components == "auto":
            n_components = max(MIN_AUTO_COMPONENTS, self.n_signal_)
        n_kept = min(n_components, rank)
        singular = np.sqrt(eigenvalues[:n_kept])
        basis = (vectors[:, :n_kept] / singular).astype(np.float32)
        found = work.loadings(source, matrix, basis)
        components, self.fingerprints_ = found.components, found.fingerprints
        largest = components[np.arange(n_kept), np.abs(components).argmax(axis=1)]
        self.components_ = components * np.sign(largest)[:, None]
        scores: NDArray[np.float64] = vectors[:, :n_kept] * (singular * np.sign(largest))
        self.shrinkage_ = shrinkage(
            spiked, eigenvalues[:rank], vectors[:, :rank], found.squares, trace, squares
        )[:n_kept]
        self.explained_variance_ = singular**2 / (n_samples - 1)
        self.explained_variance_ratio_ = eigenvalues[:n_kept] / trace
        return scores
