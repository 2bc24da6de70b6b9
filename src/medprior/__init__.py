"""medprior: unlabelled medical images and a handful of labels in, a model and a verdict out."""

__version__ = "0.1.0.dev0"
