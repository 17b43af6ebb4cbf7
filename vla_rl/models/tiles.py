"""Large pictures cut into tiles, as some families learned to see them: each tile as a picture, and the whole one small.

A view of `tiles` x `tiles` tiles is seen as I = tiles * tiles + 1 pictures. The pointers read the tiles alone, put
together to one grid again; the whole picture is for the language model.

Shapes: B batch, V views, X = B * V, I pictures of a view, N visual tokens of a picture (and those around them), M image
tokens of a view in the sequence, D width, C colours, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch.nn import functional

Piece = str | int
"""Of what stands for a view in a sequence: a special token, a text, or how many image tokens come next."""


@dataclass(frozen=True)
class Tiling:
    """How a family sees tiles.

    most: tiles along a side, as it was trained at most.
    join: (tokens [X, I, N, D], the last picture the whole one; tiles) -> [X, M, D] in the order of the sequence.
    pieces: (tiles, visual tokens of a picture without those around them) -> what the sequence says of a view.
    """

    most: int
    join: Callable[[torch.Tensor, int], torch.Tensor]
    pieces: Callable[[int, int], list[Piece]]


def cut(pixels_BVCHW: torch.Tensor, tiles: int) -> torch.Tensor:
    """Views [B, V, C, H, W] -> [B * V, I, C, H / tiles, W / tiles]: the tiles row by row, then the whole picture."""
    views = pixels_BVCHW.flatten(0, 1)
    parts = rearrange(views, "x c (row h) (column w) -> x (row column) c h w", row=tiles, column=tiles)
    size = parts.shape[-2:]
    whole = functional.interpolate(views.float(), size, mode="bilinear", antialias=True)
    return torch.cat([parts, whole.to(views.dtype).unsqueeze(1)], 1)


def put_together(tokens_XIND: torch.Tensor, tiles: int) -> torch.Tensor:
    """The tokens of tiles, [X, tiles * tiles, N, D], as those of one grid, row by row: [X, tiles * tiles * N, D]."""
    side = math.isqrt(tokens_XIND.shape[2])
    return rearrange(
        tokens_XIND, "x (row column) (h w) d -> x (row h column w) d", row=tiles, column=tiles, h=side, w=side
    )


def look(family: Any, base: Any, pixels_BVCHW: torch.Tensor, tiles: int) -> tuple[Any, torch.Tensor]:
    """A family's image output for views that are cut, in the order of the sequence; and the grid's tokens [X, G, D]."""
    pictures_XICHW = cut(pixels_BVCHW, tiles)
    seen = family.look(base, pictures_XICHW)
    listed = not isinstance(seen.pooler_output, torch.Tensor)
    found = torch.cat(tuple(seen.pooler_output)) if listed else seen.pooler_output
    tokens_XIND = found.reshape(*pictures_XICHW.shape[:2], -1, found.shape[-1])
    first, last = family.around
    joined_XMD = family.tiling.join(tokens_XIND, tiles)
    seen.pooler_output = list(joined_XMD) if listed else joined_XMD
    return seen, put_together(tokens_XIND[:, :-1, first : tokens_XIND.shape[2] - last], tiles)


def framed(tokenizer: Any, pieces: list[Piece], image: int) -> list[int]:
    """The ids of what stands for a view; special tokens that the tokenizer lacks are left out. image: the id of one."""
    known, ids = tokenizer.get_vocab(), list[int]()
    for piece in pieces:
        if isinstance(piece, int):
            ids += [image] * piece
        elif piece in known:
            ids.append(known[piece])
        elif piece.isspace():
            ids += tokenizer(piece, add_special_tokens=False).input_ids
    return ids


def _in_order(tokens_XIND: torch.Tensor, tiles: int) -> torch.Tensor:
    return tokens_XIND.flatten(1, 2)


def _idefics_pieces(tiles: int, tokens: int) -> list[Piece]:
    """As `Idefics3Processor` spells a picture that it splits."""
    pieces: list[Piece] = []
    for row in range(1, tiles + 1):
        for column in range(1, tiles + 1):
            pieces += ["<fake_token_around_image>", f"<row_{row}_col_{column}>", tokens]
        pieces.append("\n" if row < tiles else "\n\n")
    return [*pieces, "<fake_token_around_image>", "<global-img>", tokens, "<fake_token_around_image>"]


def _intern_pieces(tiles: int, tokens: int) -> list[Piece]:
    return ["<img>", (tiles * tiles + 1) * tokens, "</img>"]


def _next_join(tokens_XIND: torch.Tensor, tiles: int) -> torch.Tensor:
    """The whole picture, then the grid, each of its rows ended by the token that ends a picture here."""
    whole_XND, end_X11D = tokens_XIND[:, -1, :-1], tokens_XIND[:, :1, -1:]
    grid_XGD = put_together(tokens_XIND[:, :-1, :-1], tiles)
    side = math.isqrt(grid_XGD.shape[1])
    rows_XRCD = grid_XGD.unflatten(1, (side, side))
    ended = torch.cat([rows_XRCD, end_X11D.expand(-1, side, -1, -1)], 2)
    return torch.cat([whole_XND, ended.flatten(1, 2)], 1)


def _next_pieces(tiles: int, tokens: int) -> list[Piece]:
    side = tiles * math.isqrt(tokens)
    return [tokens + side * (side + 1)]


IDEFICS = Tiling(6, _in_order, _idefics_pieces)
INTERN = Tiling(3, _in_order, _intern_pieces)  # twelve tiles at most
NEXT = Tiling(2, _next_join, _next_pieces)
ONEVISION = Tiling(3, _next_join, _next_pieces)  # of more, the model makes fewer tokens
