"""The numbers by which n-grams are hashed: in torch (layers/ngrams.py, which has the equations), in NumPy
(serve/network.py) and in ONNX (export/ngrams.py)."""

PRIME = 2**31 - 1
MULTIPLIERS = (48271, 69621, 16807, 39373, 742938285, 950706376, 1226874159, 62089911)
"""One a length n, so that an n-gram and a longer one do not collide by design; the generators
tabulated by L'Ecuyer (1999) for multiplicative congruences modulo 2^31 - 1."""
