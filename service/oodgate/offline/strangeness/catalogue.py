"""Families of strange pictures that need no other data, for a choice of the score that holds beyond corruptions.

Corruptions alone leave every picture recognisable; these do not. A family takes uint8 pictures (N, H, W, 3) and a
generator and gives as many new ones of the same shape; it is a pure function of both. Sides of 16 pixels or more.
Memory grows with N, some ten times the pictures as float32: feed large pictures in batches.
"""

from oodgate.offline.strangeness.canvas import Family
from oodgate.offline.strangeness.mixtures import blends, collages, halves, insets, negatives, rotated_colours
from oodgate.offline.strangeness.noise import block_noise, brown_noise, grey_noise, hue_noise, pink_noise, white_noise
from oodgate.offline.strangeness.plain import flat_colours, linear_gradients, radial_gradients
from oodgate.offline.strangeness.repeats import mirrored_tiles, tiles, zoomed_crops
from oodgate.offline.strangeness.shuffles import patch_shuffles_2, patch_shuffles_4, phase_scrambles, pixel_shuffles
from oodgate.offline.strangeness.symbols import angular_symbols, coloured_symbols, curved_symbols
from oodgate.offline.strangeness.textures import checkerboards, dots, gratings, stripes, voronoi_cells, weaves

FAMILIES: dict[str, Family] = {
    "white_noise": white_noise,
    "pink_noise": pink_noise,
    "brown_noise": brown_noise,
    "grey_noise": grey_noise,
    "hue_noise": hue_noise,
    "block_noise": block_noise,
    "flat_colours": flat_colours,
    "linear_gradients": linear_gradients,
    "radial_gradients": radial_gradients,
    "stripes": stripes,
    "gratings": gratings,
    "checkerboards": checkerboards,
    "dots": dots,
    "weaves": weaves,
    "voronoi_cells": voronoi_cells,
    "angular_symbols": angular_symbols,
    "curved_symbols": curved_symbols,
    "coloured_symbols": coloured_symbols,
    "blends": blends,
    "halves": halves,
    "collages": collages,
    "insets": insets,
    "negatives": negatives,
    "rotated_colours": rotated_colours,
    "patch_shuffles_2": patch_shuffles_2,
    "patch_shuffles_4": patch_shuffles_4,
    "pixel_shuffles": pixel_shuffles,
    "phase_scrambles": phase_scrambles,
    "tiles": tiles,
    "mirrored_tiles": mirrored_tiles,
    "zoomed_crops": zoomed_crops,
}
