"""Sizes at which kernels go wrong: around vector widths, one, primes, tails, odd tiles."""

from __future__ import annotations

#: Row lengths: W - 1, W, W + 1 for every vector width and unroll in use, 1, primes, long tails.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 257, 1000, 1021)
#: Enough work for a parallel kernel to split, and no size a multiple of another.
LARGE_ROWS, LARGE_LENGTH = 67, 2053

#: (M, K, N) of products; the last ones are cut among threads along M, along N, along both.
PRODUCTS = (
    (1, 1, 1),
    (1, 7, 1),
    (1, 64, 33),
    (5, 1, 3),
    (7, 13, 11),
    (16, 16, 16),
    (17, 31, 33),
    (2, 257, 3),
    (64, 65, 63),
    (131, 70, 97),
    (29, 70, 331),
    (211, 70, 223),
)

#: (B, H, Sq, Sk, D) of attention: ones, cross lengths both ways, primes, enough to split.
ATTENTIONS = (
    (1, 1, 1, 1, 1),
    (1, 1, 1, 17, 8),
    (1, 2, 7, 7, 4),
    (2, 3, 5, 13, 7),
    (2, 3, 16, 16, 16),
    (1, 5, 33, 65, 17),
    (2, 2, 65, 33, 32),
    (1, 4, 128, 128, 16),
    (3, 1, 67, 131, 64),
)

#: (tile_q, tile_k): the kernel's own, one, non-divisors, larger than the sequence.
TILES = ((0, 0), (1, 1), (3, 5), (16, 16), (7, 64), (64, 7), (1000, 1000))

#: Pairs that broadcast: equal, a row, a column, scalars, both stretched.
BROADCASTS = (
    ((3, 17), (3, 17)),
    ((3, 17), (17,)),
    ((17,), (3, 17)),
    ((3, 17), (3, 1)),
    ((3, 1), (3, 17)),
    ((3, 17), ()),
    ((), (3, 17)),
    ((), ()),
    ((1,), (1,)),
    ((4, 1, 5), (3, 1)),
    ((2, 1, 4, 1), (3, 1, 33)),
    ((1, 1, 31, 31), (2, 3, 31, 31)),
    ((2, 3, 4, 5, 6), (4, 1, 6)),
    ((67, 2053), (67, 2053)),
    ((67, 2053), (2053,)),
    ((67, 1), (1, 2053)),
    ((2053, 67), (2053, 1)),
)
