"""Each fold against the layers that it replaces, to 1e-5."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import recipe_network

from relo_edge.contract import PIXEL_CENTRE
from relo_edge.export.folding import (
    Affine,
    Scope,
    centre_pixels,
    fold_batch_norm,
    fold_layer_scale,
    fold_normalisation,
    fuse_outputs,
    fuse_qkv,
    patch_matrix,
)
from relo_edge.spec import PIXEL_MEAN, PIXEL_STD

TOLERANCE = 1e-5
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def network():
    return recipe_network("demo")


@pytest.fixture(scope="module")
def weights(network):
    return Scope({name: tensor.numpy() for name, tensor in network.state_dict().items()})


def random_tensor(*shape):
    return torch.from_numpy(RNG.normal(size=shape).astype(np.float32))


def apply(tokens, layer):
    return tokens.numpy().astype(np.float64) @ layer.weight + layer.bias


def assert_equal(got, expected):
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=TOLERANCE)


def test_normalisation_and_centring_go_into_the_patch_embed(network, weights):
    pixels = torch.from_numpy(RNG.integers(0, 256, (1, 4, 4, 3), np.uint8))
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    body = network.encoder.body
    expected = body.patch_embed((pixels.float() / 255 - mean) / std)[0, 0]
    conv = weights.below("encoder.body").affine("patch_embed.proj")
    folded = patch_matrix(fold_normalisation(conv, PIXEL_MEAN, PIXEL_STD))
    assert_equal(apply(pixels.reshape(1, -1), folded), expected)
    centred = pixels.reshape(1, -1).float() - PIXEL_CENTRE
    assert_equal(apply(centred, centre_pixels(folded)), expected)


@pytest.mark.parametrize("name", ["blocks.0.mlp.fc1", "blocks.1.reduction", "blocks.3.reduction"])
def test_patch_convolutions_become_matrices(network, weights, name):
    layer = network.encoder.body.get_submodule(name)
    side, channels = layer.kernel_size[0], layer.in_channels
    patch = random_tensor(1, side, side, channels)
    expected = layer(patch)[0, 0]
    folded = patch_matrix(weights.below("encoder.body").affine(name))
    assert_equal(apply(patch.reshape(1, -1), folded), expected)


def test_batch_norm_goes_into_the_convolution(network, weights):
    maps = random_tensor(1, 192, 5, 5)
    block = network.policy_model.conv1_ctr
    scope = weights.below("policy_model.conv1_ctr")
    folded = fold_batch_norm(scope.affine("0"), scope.below("1"))
    weight, bias = (torch.from_numpy(part) for part in folded)
    got = F.conv2d(maps.double(), weight, bias, padding=1).relu()
    assert_equal(got, block(maps))


def test_layer_scale_goes_into_the_projection(network, weights):
    block, tokens = network.encoder.body.blocks[5], random_tensor(3, 192)
    scope = weights.below("encoder.body.blocks.5")
    folded = fold_layer_scale(scope.below("attn").linear("proj"), scope["gamma_1"])
    assert_equal(apply(tokens, folded), block.gamma_1 * block.attn.proj(tokens))


def test_query_key_value_and_scale_are_one_product(network, weights):
    attention, tokens = network.encoder.body.blocks[5].attn, random_tensor(3, 192)
    fused = apply(tokens, fuse_qkv(weights.below("encoder.body.blocks.5.attn"), 64))
    query, key, value = np.split(fused, 3, axis=1)
    expected = F.linear(tokens, attention.q_proj.weight, attention.q_bias)
    assert_equal(query, expected * 64**-0.5)
    assert_equal(key, attention.k_proj(tokens))
    assert_equal(value, F.linear(tokens, attention.v_proj.weight, attention.v_bias))


def test_both_gates_are_one_product(network, weights):
    mlp, tokens = network.encoder.body.blocks[5].mlp, random_tensor(3, 192)
    scope = weights.below("encoder.body.blocks.5.mlp")
    fused = apply(tokens, fuse_outputs(scope.linear("w1"), scope.linear("w2"), axis=1))
    gate, up = np.split(fused, 2, axis=1)
    assert_equal(gate, mlp.w1(tokens))
    assert_equal(up, mlp.w2(tokens))


def test_folds_do_not_change_the_weights_they_read(weights):
    name = "decoder.conv1_size.0.weight"
    before = weights.tensors[name].copy()
    scope = weights.below("decoder.conv1_size")
    folded = fold_batch_norm(scope.affine("0"), scope.below("1"))
    assert isinstance(folded, Affine)
    assert np.array_equal(weights.tensors[name], before)
