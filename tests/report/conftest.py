import numpy as np
import pandas as pd
import pytest

REGIONS = {"GBR": "EUR", "TSI": "EUR", "FIN": "EUR", "YRI": "AFR", "LWK": "AFR", "JPT": "EAS"}


@pytest.fixture
def regions():
    return dict(REGIONS)


@pytest.fixture
def table():
    """120 samples of 6 populations in 3 regions: two were not placed, four have no label."""
    rng = np.random.default_rng(11)
    populations = np.repeat(list(REGIONS), 20)
    centres = rng.normal(scale=8, size=(6, 2)).repeat(20, axis=0)
    Z = centres + rng.normal(size=(120, 2))
    table = pd.DataFrame(
        {
            "sample_id": [f"S{i:03d}" for i in range(120)],
            "ddvi1": Z[:, 0],
            "ddvi2": Z[:, 1],
            "cluster": np.repeat(np.arange(6), 20).astype(float),
            "probability": rng.uniform(0.5, 1, 120),
            "population": populations.astype(object),
            "region": [REGIONS[name] for name in populations],
        }
    )
    table.loc[[3, 70], ["ddvi1", "ddvi2", "cluster", "probability"]] = np.nan
    table.loc[[10, 30, 50, 110], ["population", "region"]] = None
    return table
