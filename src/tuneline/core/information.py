"""Units of information."""

from typing import TypeVar

import numpy as np

Number = TypeVar("Number", float, np.ndarray)

BITS_PER_NAT = float(1 / np.log(2))


def bits(nats: Number) -> Number:
    """A negative log-likelihood in bits. Divided by the bytes of the text, it is the text's bits per byte."""
    return nats * BITS_PER_NAT
