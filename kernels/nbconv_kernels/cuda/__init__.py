"""The CUDA backend: the ops of ``reference`` as kernels that Numba compiles for NVIDIA GPUs."""
