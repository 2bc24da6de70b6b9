"""Pure loss functions on tensors, one file per family."""
