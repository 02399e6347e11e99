"""A tiny random BERT with its own WordPiece vocabulary, and a trained part for it: no weights, no network."""

import string
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertModel

from router import lora, weights_file
from router.bank import Bank, save_bank
from router.delegator import Delegator
from router.intents import INTENTS
from router.model import load_encoder
from router.policy import Policy

HIDDEN = 16


def _vocabulary() -> dict[str, int]:
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "what",
        "is",
        "the",
        "sum",
        "of",
        "write",
        "a",
        "poem",
    ]
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    return {word: i for i, word in enumerate([*words, *letters[1:], *(f"##{c}" for c in letters)])}


def make_encoder(folder: Path, seed: int = 0) -> Path:
    """Writes a two-layer random BERT checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    # As sentence-transformers ships it: with truncation and padding switched on.
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def make_weights(folder: Path, encoder: Path, max_tokens: int = 32) -> Path:
    """Writes a random trained part for the encoder, its deltas not zero."""
    adapted = load_encoder(encoder)
    lora.adapt(adapted, targets="query|dense", rank=2, scale=1.0, seed=1)
    generator = torch.Generator().manual_seed(2)
    for module in adapted.modules():
        if isinstance(module, lora.LoraLinear):
            module.lora_b.data = torch.randn(module.lora_b.shape, generator=generator) * 0.1
    tensors = lora.deltas(adapted)
    tensors["head.weight"] = torch.randn(len(INTENTS), HIDDEN, generator=generator)
    tensors["head.bias"] = torch.zeros(len(INTENTS))
    metadata = weights_file.RouterMetadata(
        intents=INTENTS,
        temperature=1.0,
        policy=Policy(threshold=0.5),
        max_tokens=max_tokens,
        seed=0,
        encoder_sha256=weights_file.sha256_of(encoder / "model.safetensors"),
    )
    weights_file.save(folder, metadata, tensors)
    save_bank(folder, _bank(generator), weights_file.sha256_of(folder / weights_file.TENSORS))
    return folder


def _bank(generator: torch.Generator, rows: int = 140) -> Bank:
    """Random directions: half to fit on, of which some have a text, half to check on."""
    vectors = torch.randn(rows, 4, HIDDEN, generator=generator)
    vectors = torch.nn.functional.normalize(vectors, dim=-1).flatten(1).double().numpy()
    texts = tuple(f"example {row}" if row < 20 else "" for row in range(rows))
    labels = np.arange(rows) % len(INTENTS)
    return Bank(vectors, labels, np.arange(rows) >= rows // 2, texts)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    return make_weights(tmp_path_factory.mktemp("weights"), tiny_encoder)


@pytest.fixture(scope="session")
def tiny_delegator(tiny_encoder: Path, tiny_weights: Path) -> Delegator:
    return Delegator.from_folder(tiny_encoder, tiny_weights)
