"""The first convolution of the STOR566 slides by hand, forward and backward, and the same from nbconv.

A convolution layer lays its kernel on every place of the image, multiplies what lies on top of each other
and adds it all up. Backward, each output hands its gradient to what went into it, times what it was
multiplied by.
"""

import numpy as np

import nbconv as nb

IMAGE = np.array([[1, 0.5, 20], [0.25, 0, 0], [0, 0, 20]], np.float32)
KERNEL = np.array([[1, 0.2], [0.2, 0]], np.float32)


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Cross-correlation without padding, place by place."""
    size = len(kernel)
    places = len(image) - size + 1
    result = np.zeros((places, places), np.float32)
    for row in range(places):
        for column in range(places):
            window = image[row : row + size, column : column + size]
            result[row, column] = (window * kernel).sum()
            terms = " + ".join(f"{x:g} * {w:g}" for x, w in zip(window.ravel(), kernel.ravel(), strict=True))
            print(f"  output[{row}, {column}] = {terms} = {result[row, column]:g}")
    return result


def gradients(dy: np.ndarray, image: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of image and kernel, from that of the output."""
    size = len(kernel)
    dimage, dkernel = np.zeros_like(image), np.zeros_like(kernel)
    for row, column in np.ndindex(dy.shape):
        place = slice(row, row + size), slice(column, column + size)
        dimage[place] += dy[row, column] * kernel
        dkernel += dy[row, column] * image[place]
    return dimage, dkernel


def main() -> None:
    """Compute both and compare."""
    print(f"image\n{IMAGE}\nkernel\n{KERNEL}")
    by_hand = convolve(IMAGE, KERNEL)
    # If the loss is the sum of the outputs, its gradient is 1 everywhere.
    dimage, dkernel = gradients(np.ones_like(by_hand), IMAGE, KERNEL)

    layer = nb.Conv2d(1, 1, 2, bias=False)
    layer.weight.data = KERNEL[np.newaxis, np.newaxis]
    y, backprop = layer.forward(IMAGE[np.newaxis, np.newaxis])
    dx = backprop(np.ones_like(y))[0, 0]
    dweight = layer.weight.grad[0, 0]
    print(f"nbconv gives\n{y[0, 0]}\ngradient of the image\n{dx}\ngradient of the kernel\n{dweight}")

    np.testing.assert_allclose(by_hand, [[1.15, 4.5], [0.25, 0]], rtol=1e-6)  # as the slide has it
    np.testing.assert_allclose(y[0, 0], by_hand, rtol=1e-6)
    np.testing.assert_allclose(dx, dimage, rtol=1e-6)
    np.testing.assert_allclose(dweight, dkernel, rtol=1e-6)


if __name__ == "__main__":
    main()
