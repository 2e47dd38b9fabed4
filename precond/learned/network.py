"""The network both learned preconditioners share: features of every cell in, tokens of leaves and tiles out.

As in arXiv 2605.13343: a lift, graph convolutions weighted by A, then layers of two interleaved streams, one
attending inside each leaf, one inside each tile, joined by highways (axial buffers, a global token). Every
part can be switched off. Departures: tile tokens carry an embedding of their number and their tile's
geometry, since cell positions are relative to the leaf; their attention has no operator bias, A having hardly
an entry there; the linear attention term is linear in the edge features, so it costs O(L), not O(L^2).

K leaves of L cells, T tiles of L_s tokens, width d, h heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from precond.learned.features import GLOBAL_FEATURES, NODE_FEATURES, LeafFeatures
from precond.learned.highways import Edges, Highways

MASKED = -1e4  # added to the attention logits of cells that do not exist


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes and switches; the defaults are the paper's. Raises ValueError for sizes that do not fit."""

    width: int = 128
    heads: int = 8
    layers: int = 3
    expansion: int = 4  # hidden width of the feed-forward networks over d
    graph_convolutions: int = 2
    operator_bias: bool = True  # A_ij on the attention logits
    edge_term: bool = True  # the gated linear attention from dx, dy, A_ij
    softmax_attention: bool = True  # without it leaves mix by the edge term alone, at a third of the cost
    off_diagonal_stream: bool = True
    tile_tokens: int = 32  # L_s
    axial_buffers: bool = True
    global_token: bool = True
    leaf_mean: bool = False  # the leaf's own mean before its feed-forward network: the cheapest highway
    global_features: bool = True  # without it and the global token, distant changes are not seen

    def __post_init__(self) -> None:
        for name in ("width", "heads", "layers", "expansion", "graph_convolutions", "tile_tokens"):
            least = 0 if name in ("layers", "graph_convolutions") else 1
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is not a whole number from {least}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.axial_buffers and not self.off_diagonal_stream:
            raise ValueError("axial_buffers join the tiles to the leaves: they need off_diagonal_stream")
        if not self.softmax_attention and (self.off_diagonal_stream or not self.edge_term):
            raise ValueError("without softmax_attention leaves need edge_term, and tiles cannot attend")

    def check_leaf_size(self, leaf_size: int) -> None:
        """Raise ValueError unless ``leaf_size`` cells make whole runs of the tiles' tokens, if any."""
        if self.off_diagonal_stream and leaf_size % self.tile_tokens:
            raise ValueError(f"leaf_size {leaf_size} must be a multiple of tile_tokens {self.tile_tokens}")


class LeafConfig:
    """Base of the configurations, dataclasses, of networks with a ``trunk`` on leaves."""

    @classmethod
    def of(cls, values: dict) -> LeafConfig:
        """From the plain values of a settings file or a model card. Raises TypeError for unknown names."""
        return cls(**{**values, "trunk": TrunkConfig(**values.get("trunk", {}))})


class Attention(nn.Module):
    """Softmax attention inside groups, biased by A, plus the gated linear term of the edge features.

    The linear term adds sum_j (a dx_ij + b dy_ij) v_j / n + c sum_j A_ij v_j, with learned a, b, c per head
    and a gate per token and head; dx_ij = x_i - x_j, so the first sum needs three moments of v only.
    """

    def __init__(self, config: TrunkConfig, with_operator: bool):
        super().__init__()
        d, self.heads, self.softmax = config.width, config.heads, config.softmax_attention
        self.qkv = nn.Linear(d, 3 * d if self.softmax else d, bias=False)
        self.out = nn.Linear(d, d)
        self.bias_scale = self.edge = None
        if with_operator and config.operator_bias and self.softmax:
            self.bias_scale = nn.Parameter(torch.full((self.heads, 1, 1), -1.0))
        if with_operator and config.edge_term:
            self.edge = nn.Parameter(torch.tensor([[0.1], [0.1], [-0.5]]).repeat(1, self.heads))
            self.gate = nn.Linear(d, self.heads)

    def forward(self, x: Tensor, blocked: Tensor, leaves: Highways) -> Tensor:
        """``x`` (G, n, d), zero where masked; ``blocked`` (G, 1, 1, n), MASKED there."""
        qkv = self.qkv(x)  # (G, n, 3 d), or (G, n, d) without the softmax
        mixed = self._softmax(qkv, blocked, leaves) if self.softmax else 0.0
        if self.edge is not None:
            gate = torch.sigmoid(self.gate(x))  # (G, n, h)
            edges = self._edges(qkv[..., -x.shape[-1] :], leaves)  # (G, n, d)
            mixed = mixed + (edges.unflatten(-1, (self.heads, -1)) * gate[..., None]).flatten(-2)
        return self.out(mixed)

    def _softmax(self, qkv: Tensor, blocked: Tensor, leaves: Highways) -> Tensor:
        """Values mixed by softmax attention, (G, n, d), from ``qkv`` (G, n, 3 d)."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (G, h, n, d / h) each
        logits = blocked
        if self.bias_scale is not None:
            logits = torch.addcmul(blocked, leaves.edges.bias[:, None], self.bias_scale)  # (G, h, n, n)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=logits)  # (G, h, n, d / h)
        return mixed.transpose(1, 2).flatten(-2)

    def _edges(self, v: Tensor, leaves: Highways) -> Tensor:
        """The linear term before its gate, (K, L, d), from values ``v`` (K, L, d)."""
        a, b, c = self.edge.repeat_interleave(v.shape[-1] // self.heads, dim=1)  # (d,) each
        places = torch.cat([leaves.mask[..., None], leaves.edges.positions], dim=-1)  # (K, L, 3): 1, x, y
        cells = leaves.mask.sum(dim=1).clamp(min=1.0)[:, None, None]  # (K, 1, 1)
        moments = torch.bmm(places.mT, v) / cells  # (K, 3, d): means of v, x v, y v
        first = moments[:, 0]  # (K, d)
        parts = [-(a * moments[:, 1] + b * moments[:, 2]), a * first, b * first]
        far = torch.bmm(places, torch.stack(parts, dim=1))  # (K, L, d)
        return torch.addcmul(far, torch.bmm(leaves.edges.bias, v), c)


class FeedForward(nn.Module):
    """A two-layer network on a token and its highways, concatenated.

    The first layer is split: what several tokens share is multiplied once, not once per token.
    """

    def __init__(self, config: TrunkConfig, axial: bool, shared: int):
        super().__init__()
        d, hidden = config.width, config.expansion * config.width
        self.own = nn.Linear(d, hidden)
        self.axial = nn.Linear(2 * d, hidden, bias=False) if axial else None
        self.shared = nn.Linear(shared * d, hidden, bias=False) if shared else None
        self.out = nn.Linear(hidden, d)

    def forward(self, x: Tensor, axial: Tensor | None, shared: list[Tensor]) -> Tensor:
        """``x`` (G, n, d), ``axial`` (G, n_s, 2 d) with n a multiple of n_s, ``shared`` (G or 1, 1, d)."""
        hidden = self.own(x)  # (G, n, hidden)
        if self.axial is not None:
            spread = self.axial(axial)[:, :, None]  # (G, n_s, 1, hidden)
            hidden = (hidden.unflatten(1, (axial.shape[1], -1)) + spread).flatten(1, 2)
        if self.shared is not None:
            hidden = hidden + self.shared(torch.cat(torch.broadcast_tensors(*shared), dim=-1))
        return self.out(F.gelu(hidden))


class GraphConvolution(nn.Module):
    """x + gelu(W x + V (D^-1 A_off x)) where there are cells, rows of A scaled by the diagonal."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.own = nn.Linear(width, width)
        self.others = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, features: LeafFeatures) -> Tensor:
        """``x`` (K, L, d), zero where masked, and so returned."""
        y = self.norm(x)
        flat = y.view(-1, y.shape[-1])  # (K L, d)
        near = features.neighbour_sums(flat)  # (K L, d)
        return torch.addcmul(x, F.gelu(self.own(y) + self.others(near).view_as(y)), features.mask[..., None])


class Layer(nn.Module):
    """Attention in the leaves and in the tiles, then, over the highways, their feed-forward networks."""

    def __init__(self, config: TrunkConfig):
        super().__init__()
        self.config = config
        d = config.width

        def stream(with_operator: bool, shared: int) -> nn.ModuleDict:
            attention = Attention(config, with_operator)
            feed_forward = FeedForward(config, config.axial_buffers, shared)
            after = {"middle_norm": nn.RMSNorm(d), "feed_forward": feed_forward}
            return nn.ModuleDict({"norm": nn.RMSNorm(d), "attention": attention, **after})

        self.leaf = stream(True, config.global_token + config.leaf_mean)
        self.tile = stream(False, int(config.global_token)) if config.off_diagonal_stream else None

    def forward(self, x: Tensor, y: Tensor | None, highways: Highways) -> tuple[Tensor, Tensor | None]:
        """``x`` (K, L, d) and ``y`` (T, L_s, d) or None, zero where masked, and so returned."""
        mask = highways.mask[..., None]  # (K, L, 1)
        blocked = (1.0 - highways.mask)[:, None, None] * MASKED  # (K, 1, 1, L)
        x = torch.addcmul(x, self.leaf["attention"](self.leaf["norm"](x), blocked, highways), mask)
        own = self.leaf["middle_norm"](x)  # (K, L, d)
        tile_own, axial = None, (None, None)
        if y is not None:
            blocked = (1.0 - highways.tile_mask)[:, None].mT * MASKED  # (T, 1, 1, L_s)
            attended = self.tile["attention"](self.tile["norm"](y), blocked, highways)
            y = torch.addcmul(y, attended, highways.tile_mask)
            tile_own = self.tile["middle_norm"](y)  # (T, L_s, d)
        if self.config.axial_buffers:
            axial = highways.axial(own, tile_own)
        common = [highways.global_mean(own, tile_own)] if self.config.global_token else []
        shared = common + ([highways.leaf_mean(own)] if self.config.leaf_mean else [])
        x = torch.addcmul(x, self.leaf["feed_forward"](own, axial[0], shared), mask)
        if y is not None:
            y = torch.addcmul(y, self.tile["feed_forward"](tile_own, axial[1], common), highways.tile_mask)
        return x, y


class Streams(nn.Module):
    """The layers of both streams, from tokens of the leaves to tokens of leaves and tiles."""

    def __init__(self, config: TrunkConfig):
        super().__init__()
        d = config.width
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(d)
        if config.off_diagonal_stream:
            self.tile_number = nn.Parameter(torch.randn(config.tile_tokens, d))
            self.tile_geometry = nn.Linear(3, d)
            self.tile_norm = nn.RMSNorm(d)

    def layered(
        self, x: Tensor, highways: Highways, tile_geometry: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens after all layers, from ``x`` (K, n, d), zero where masked, and, where there are tiles, their
        ``tile_geometry`` (T, 3).
        """
        y = None
        if highways.tiles is not None:
            geometry = self.tile_geometry(tile_geometry)[:, None]  # (T, 1, d)
            y = (highways.tile_means(x) + self.tile_number + geometry) * highways.tile_mask  # (T, L_s, d)
        for layer in self.layers:
            x, y = layer(x, y, highways)
        return self.norm(x), None if y is None else self.tile_norm(y)


class Trunk(Streams):
    """Tokens (K, L, d) of the cells and, with the off-diagonal stream, (T, L_s, d) of the tiles."""

    def __init__(self, config: TrunkConfig):
        super().__init__(config)
        d = config.width
        self.lift_node = nn.Linear(NODE_FEATURES, d)
        self.lift_globals = nn.Linear(GLOBAL_FEATURES + 1, d, bias=False) if config.global_features else None
        self.lift_out = nn.Linear(d, d)
        self.convolutions = nn.ModuleList(GraphConvolution(d) for _ in range(config.graph_convolutions))

    def forward(self, features: LeafFeatures) -> tuple[Tensor, Tensor | None]:
        """Leaf tokens (K, L, d), zero where masked, and tile tokens (T, L_s, d) or None.

        L must be a multiple of ``tile_tokens`` when there is an off-diagonal stream.
        """
        mask = features.mask[..., None]  # (K, L, 1)
        lifted = self.lift_node(features.node)  # (K, L, d)
        if self.lift_globals is not None:
            common = features.globals.expand(features.count, -1)  # (K, 12)
            common = self.lift_globals(torch.cat([common, features.level], dim=1))  # (K, d)
            lifted = lifted + common[:, None]
        x = self.lift_out(F.gelu(lifted)) * mask
        for convolution in self.convolutions:
            x = convolution(x, features)
        edges = Edges(features.positions, features.bias)
        off_diagonal = self.config.off_diagonal_stream
        tiles, geometry = (features.tiles, features.tile_geometry()) if off_diagonal else (None, None)
        return self.layered(x, Highways(features.mask, tiles, self.config.tile_tokens, edges), geometry)
