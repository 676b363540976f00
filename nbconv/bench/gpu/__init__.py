"""nbconv beside PyTorch and cuDNN on a GPU: kernel by kernel, and whole networks."""
