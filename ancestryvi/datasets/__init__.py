"""Public data: genotypes of 1000 Genomes, and images that the methods' own papers report on."""

from ancestryvi.datasets.images import fetch_cifar10, fetch_mnist, load_cifar10, load_mnist
from ancestryvi.datasets.thousand_genomes import fetch_1000g

__all__ = ["fetch_1000g", "fetch_cifar10", "fetch_mnist", "load_cifar10", "load_mnist"]
