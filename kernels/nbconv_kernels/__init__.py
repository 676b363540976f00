"""The arithmetic of nbconv: one namespace of ops for each backend.

``nbconv_kernels.reference`` defines every op in slow and obvious NumPy; ``nbconv_kernels.cpu`` computes the
same with Numba. Both hold the same functions, with the same signatures, in files of the same names, and know
nothing of layers or models.
"""
