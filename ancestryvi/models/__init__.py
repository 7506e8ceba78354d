"""The mathematics, in torch: tensors in, tensors out."""
