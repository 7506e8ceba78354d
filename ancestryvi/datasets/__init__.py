"""Public images that the methods' own papers report on."""

from ancestryvi.datasets.images import fetch_cifar10, fetch_mnist, load_cifar10, load_mnist

__all__ = ["fetch_cifar10", "fetch_mnist", "load_cifar10", "load_mnist"]
