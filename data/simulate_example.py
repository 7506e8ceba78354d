"""Make the bundled example, ``example.vcf.gz`` and ``example.samples.tsv``.

Run as ``python data/simulate_example.py``; it takes about a minute on one core, needs msprime and
writes the two files beside this one. All seeds are fixed: the same versions of msprime, numpy
and zlib give the same bytes. ``data/README.md`` says what is in the files and where the model
comes from.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msprime
import numpy as np

SEED = 20260

# Gravel et al. (2011), low-coverage + exons; times in generations of 25 years.
SIZE_ANCESTRAL, SIZE_AFRICA, SIZE_BOTTLENECK = 7310, 14474, 1861
SIZE_EUROPE, GROWTH_EUROPE = 34039, 0.0038  # today: 1032 people growing since the split from Asia
SIZE_ASIA, GROWTH_ASIA = 45852, 0.0048  # today: 554 people growing since the split from Europe
TIME_AFRICA, TIME_OUT_OF_AFRICA, TIME_EUROPE_ASIA = 5920, 2040, 920
MIGRATION_BOTTLENECK = 15e-5
MIGRATION = {("AFR", "EUR"): 2.5e-5, ("AFR", "ASI"): 0.78e-5, ("EUR", "ASI"): 3.11e-5}
MUTATION_RATE = 2.36e-8

# Browning et al. (2018).
TIME_ADMIXTURE = 12
PROPORTIONS_BROWNING = {"AFR1": 1 / 6, "EUR1": 1 / 3, "ASI1": 1 / 2}

# Our own additions from here on: the splits inside the continents, (ancestor, generations ago,
# daughters), the size of every daughter, and the spread of ancestry among the admixed.
RECENT_SPLITS = (
    ("AFR", 160, ("AFR_A", "AFR_B")),
    ("EUR", 150, ("EUR_A", "EUR_B")),
    ("ASI", 150, ("ASI_A", "ASI_B")),
    ("AFR_A", 70, ("AFR1", "AFR2")),
    ("AFR_B", 100, ("AFR3", "AFR4")),
    ("EUR_A", 80, ("EUR1", "EUR2")),
    ("EUR_B", 55, ("EUR3", "EUR4")),
    ("ASI_A", 60, ("ASI1", "ASI2")),
    ("ASI_B", 90, ("ASI3", "ASI4")),
)
SIZE_RECENT = 7000
PROPORTIONS_TWO_WAY = {"AFR1": 0.8, "EUR1": 0.2}
ADMIXED = {"ADM1": PROPORTIONS_BROWNING, "ADM2": PROPORTIONS_TWO_WAY}
DIRICHLET_CONCENTRATION = 25.0

N_SAMPLES = {
    "AFR": (45, 35, 40, 25),
    "EUR": (60, 35, 40, 30),
    "ASI": (45, 30, 40, 25),
    "ADM": (40, 30),
}
SAMPLES = {
    f"{region}{number}": size
    for region, sizes in N_SAMPLES.items()
    for number, size in enumerate(sizes, start=1)
}
SUPERPOPULATIONS = {"AFR": "Africa", "EUR": "Europe", "ASI": "Asia", "ADM": "Admixed"}

# The genome: all along 22 contigs short loci, each with a genealogy of its own.
CONTIGS = {str(number): 250 - 9 * (number - 1) for number in range(1, 23)}  # megabases
MEGABASE = 1_000_000
LOCUS_SPACING, LOCUS_LENGTH = MEGABASE // 2, 10_000
RECOMBINATION_RATE = 1e-8
COMMON_FREQUENCY = 0.05
COMMON_PER_LOCUS = (1, 2)  # taken in turn
LOCI_PER_RARE = 8  # one locus in so many also gives a rare variant

# What a real file has to be cleaned of: numbers of records, then rates.
N_MULTIALLELIC, N_INDEL, N_DUPLICATE, N_MONOMORPHIC, N_POORLY_CALLED = 60, 90, 30, 60, 40
N_LOW_CALL_RATE_SAMPLES = 8
MISSING_RATE = 0.004
POORLY_CALLED_RATES = (0.08, 0.30)
LOW_CALL_RATE_SAMPLE_RATES = (0.04, 0.25)
HALF_CALL_SHARE = 0.05

BASES = np.array(list("ACGT"))


@dataclass(frozen=True)
class Record:
    """One line of the VCF: alleles with REF first, calls (samples, 2) with -1 for missing."""

    contig: str
    position: int
    alleles: tuple[str, ...]
    calls: np.ndarray

    def minor_allele_frequency(self) -> float:
        """Frequency of all that is not the commonest allele."""
        return 1.0 - np.bincount(self.calls.ravel()).max() / self.calls.size


def build_demography(rng: np.random.Generator) -> tuple[msprime.Demography, list[str]]:
    """Build the model; also name the deme of every sample, in the order of ``SAMPLES``."""
    model = msprime.Demography()
    model.add_population(name="ANC", initial_size=SIZE_ANCESTRAL)
    model.add_population(name="AMH", initial_size=SIZE_AFRICA)
    model.add_population(name="OOA", initial_size=SIZE_BOTTLENECK)
    model.add_population(name="AFR", initial_size=SIZE_AFRICA)
    model.add_population(name="EUR", initial_size=SIZE_EUROPE, growth_rate=GROWTH_EUROPE)
    model.add_population(name="ASI", initial_size=SIZE_ASIA, growth_rate=GROWTH_ASIA)
    for _, _, daughters in RECENT_SPLITS:
        for name in daughters:
            model.add_population(name=name, initial_size=SIZE_RECENT)

    # Every admixed person is a deme of one, so that ancestry varies from person to person.
    demes = []
    for population, size in SAMPLES.items():
        proportions = ADMIXED.get(population)
        if proportions is None:
            demes += [population] * size
            continue
        weights = DIRICHLET_CONCENTRATION * np.array(list(proportions.values()))
        for number, drawn in enumerate(rng.dirichlet(weights, size=size)):
            deme = f"{population}_{number}"
            model.add_population(name=deme, initial_size=SIZE_RECENT)
            model.add_admixture(
                TIME_ADMIXTURE, derived=deme, ancestral=list(proportions), proportions=drawn
            )
            demes.append(deme)

    for ancestor, time, daughters in RECENT_SPLITS:
        model.add_population_split(time, derived=list(daughters), ancestral=ancestor)
    split_time = {ancestor: time for ancestor, time, _ in RECENT_SPLITS}
    for pair, rate in MIGRATION.items():  # for as long as both continents are one population
        time = max(split_time[name] for name in pair)
        model.add_symmetric_migration_rate_change(time, list(pair), rate)
    model.add_population_split(TIME_EUROPE_ASIA, derived=["EUR", "ASI"], ancestral="OOA")
    model.add_symmetric_migration_rate_change(
        TIME_EUROPE_ASIA, ["AFR", "OOA"], MIGRATION_BOTTLENECK
    )
    model.add_population_split(TIME_OUT_OF_AFRICA, derived=["AFR", "OOA"], ancestral="AMH")
    model.add_population_split(TIME_AFRICA, derived=["AMH"], ancestral="ANC")
    model.sort_events()
    return model, demes


def simulate_loci(rng: np.random.Generator) -> Iterator[list[Record]]:
    """Simulate the loci one by one, each as the records of all its variable sites."""
    model, demes = build_demography(rng)
    samples = [msprime.SampleSet(1, population=deme) for deme in demes]
    # One more European genome is the reference sequence: REF is whatever it carries.
    samples.append(msprime.SampleSet(1, population="EUR1", ploidy=1))
    places = [
        (contig, start)
        for contig, length in CONTIGS.items()
        for start in range(0, length * MEGABASE, LOCUS_SPACING)
    ]
    genealogies = msprime.sim_ancestry(
        samples,
        demography=model,
        sequence_length=LOCUS_LENGTH,
        recombination_rate=RECOMBINATION_RATE,
        num_replicates=len(places),
        random_seed=SEED,
    )
    substitutions = msprime.HKY(kappa=4.0)  # transitions outnumber transversions two to one
    for number, ((contig, start), genealogy) in enumerate(zip(places, genealogies, strict=True)):
        mutated = msprime.sim_mutations(
            genealogy, rate=MUTATION_RATE, model=substitutions, random_seed=SEED + number
        )
        locus = []
        for variant in mutated.variants():
            reference, haplotypes = variant.genotypes[-1], variant.genotypes[:-1]
            present = np.flatnonzero(np.bincount(haplotypes))
            order = [reference, *present[present != reference]]
            if len(order) == 1:
                continue  # only the reference genome differs
            code = np.zeros(len(variant.alleles), dtype=np.int8)
            code[order] = np.arange(len(order))
            locus.append(
                Record(
                    contig,
                    start + int(variant.site.position) + 1,
                    tuple(variant.alleles[allele] for allele in order),
                    code[haplotypes].reshape(-1, 2),
                )
            )
        yield locus


def choose_records(rng: np.random.Generator) -> list[Record]:
    """Take a few common variants of every locus, some rare ones and some of three alleles."""
    chosen: list[Record] = []
    multiallelic: list[Record] = []
    for number, locus in enumerate(simulate_loci(rng)):
        common: list[Record] = []
        rare: list[Record] = []
        for record in locus:
            is_common = record.minor_allele_frequency() >= COMMON_FREQUENCY
            if len(record.alleles) == 2:
                (common if is_common else rare).append(record)
            elif is_common:
                multiallelic.append(record)
        chosen += pick(rng, common, COMMON_PER_LOCUS[number % len(COMMON_PER_LOCUS)])
        if number % LOCI_PER_RARE == 0:
            chosen += pick(rng, rare, 1)
    return chosen + pick(rng, multiallelic, N_MULTIALLELIC)


def pick(rng: np.random.Generator, records: list[Record], n_wanted: int) -> list[Record]:
    """Choose records at random without replacement, all of them where there are too few."""
    index = rng.choice(len(records), size=min(n_wanted, len(records)), replace=False)
    return [records[i] for i in index]


def add_odd_records(rng: np.random.Generator, records: list[Record]) -> list[Record]:
    """Turn some variants into indels, repeat some and add sites at which nobody varies."""
    biallelic = [i for i, record in enumerate(records) if len(record.alleles) == 2]
    odd = rng.choice(biallelic, size=N_INDEL + N_DUPLICATE, replace=False)
    records = list(records)
    for i in odd[:N_INDEL]:
        base = records[i].alleles[0]
        longer = base + "".join(rng.choice(BASES, size=rng.integers(1, 6)))
        insertion = rng.random() < 0.5
        records[i] = replace(records[i], alleles=(base, longer) if insertion else (longer, base))
    records += [records[i] for i in odd[N_INDEL:]]
    places = rng.choice(len(records), size=N_MONOMORPHIC, replace=False)
    for number, i in enumerate(places):
        reference, alternate = (str(base) for base in rng.choice(BASES, size=2, replace=False))
        records.append(
            Record(
                records[i].contig,
                records[i].position + LOCUS_LENGTH,  # clear of the locus
                (reference, alternate) if number % 2 else (reference,),
                np.zeros_like(records[i].calls),
            )
        )
    contigs = list(CONTIGS)
    return sorted(records, key=lambda record: (contigs.index(record.contig), record.position))


def lose_calls(rng: np.random.Generator, records: list[Record]) -> list[Record]:
    """Make calls missing: a few everywhere, more in poor variants and in poor samples."""
    n_records, n_samples = len(records), len(records[0].calls)
    rates = np.full((n_records, n_samples), MISSING_RATE)
    poor = rng.choice(n_records, size=N_POORLY_CALLED, replace=False)
    rates[poor] += rng.uniform(*POORLY_CALLED_RATES, size=(N_POORLY_CALLED, 1))
    poor = rng.choice(n_samples, size=N_LOW_CALL_RATE_SAMPLES, replace=False)
    rates[:, poor] += rng.uniform(*LOW_CALL_RATE_SAMPLE_RATES, size=N_LOW_CALL_RATE_SAMPLES)
    result = []
    for record, rate in zip(records, rates, strict=True):
        missing = rng.random(n_samples) < rate
        half = missing & (rng.random(n_samples) < HALF_CALL_SHARE)
        calls = np.sort(record.calls, axis=1)  # unphased
        calls[missing & ~half] = -1
        calls[half, rng.integers(2, size=half.sum())] = -1
        result.append(replace(record, calls=calls))
    return result


def vcf_text(records: list[Record], sample_ids: list[str]) -> str:
    """Write the records as VCF 4.3."""
    header = ["##fileformat=VCFv4.3", "##source=data/simulate_example.py, simulated genotypes"]
    header += [f"##contig=<ID={name},length={n * MEGABASE}>" for name, n in CONTIGS.items()]
    header.append('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">')
    fixed = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
    lines = [*header, "\t".join([*fixed, *sample_ids])]
    symbols = np.array(["0", "1", "2", "3", "."])  # -1, missing, indexes the last one
    for record in records:
        reference, *others = record.alleles
        site = [record.contig, str(record.position), ".", reference, ",".join(others) or "."]
        calls = ["/".join(pair) for pair in symbols[record.calls]]
        lines.append("\t".join([*site, ".", "PASS", ".", "GT", *calls]))
    return "\n".join(lines) + "\n"


def bgzf(data: bytes) -> bytes:
    """Compress to BGZF, the gzip of independent blocks that htslib can index (SAM spec, 4.1)."""

    def block(part: bytes) -> bytes:
        compressor = zlib.compressobj(level=9, wbits=-15, memLevel=9)
        body = compressor.compress(part) + compressor.flush()
        # magic, deflate, extra field; no time; its 6 bytes: "BC", length 2, block size - 1
        head = struct.pack("<4BI2BH2BHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
        return head + body + struct.pack("<II", zlib.crc32(part), len(part))

    size = 65_280
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(block(part) for part in [*parts, b""])  # an empty block marks the end


def main() -> None:
    """Simulate, make a mess of it, and write both files beside this script."""
    rng = np.random.default_rng(SEED)
    records = lose_calls(rng, add_odd_records(rng, choose_records(rng)))

    # Neither the name of a sample nor its place in the file gives its population away.
    populations = np.repeat(list(SAMPLES), list(SAMPLES.values()))
    order = rng.permutation(len(populations))
    records = [replace(record, calls=record.calls[order]) for record in records]
    sample_ids = [f"S{number:03d}" for number in range(1, len(order) + 1)]
    rows = sorted(
        (population, sample_id)
        for population, sample_id in zip(populations[order], sample_ids, strict=True)
    )

    folder = Path(__file__).parent
    (folder / "example.vcf.gz").write_bytes(bgzf(vcf_text(records, sample_ids).encode()))
    table = ["sample\tpopulation\tsuperpopulation"]
    table += [f"{sample}\t{name}\t{SUPERPOPULATIONS[name[:3]]}" for name, sample in rows]
    (folder / "example.samples.tsv").write_text("\n".join(table) + "\n")
    print(f"{len(records)} records of {len(sample_ids)} samples")


if __name__ == "__main__":
    main()
