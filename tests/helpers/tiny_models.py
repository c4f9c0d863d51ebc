"""Models of the transformers package, small enough to make in a test.

Their weights are random, or so set that one answer follows any question: they prove the wire and
the shapes, and nothing about finding.
"""

import itertools
from pathlib import Path

VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *VISION_TOKENS]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' or part.type == 'image_url' or 'image' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_qwen(folder: Path, answer: str) -> Path:
    """A Qwen2.5-VL of a few hundred kilobytes that says the same to every question."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2TokenizerFast,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = Qwen2TokenizerFast(tokenizer_file=str(_write_tokenizer(folder, answer)))
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.chat_template = CHAT_TEMPLATE
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    network = Qwen2_5_VLForConditionalGeneration(config)
    end_of_question = tokenizer.encode("\n")[0]
    _chain_tokens(network, [end_of_question, tokenizer.encode(answer)[0], ids["<|im_end|>"]])
    network.save_pretrained(folder)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _chain_tokens(network, tokens):
    """Make each of the tokens follow the one before it, whatever stands before that."""
    import torch

    with torch.no_grad():
        for layer in network.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        known = network.get_input_embeddings().weight
        network.lm_head.weight.zero_()
        for before, after in itertools.pairwise(tokens):
            network.lm_head.weight[after] = known[before] / known[before].norm()


def _write_tokenizer(folder: Path, answer: str) -> Path:
    """Bytes, the special tokens, and the answer as one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([answer])
    path = folder / "tokenizer.json"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def write_owlv2(folder: Path) -> Path:
    """An OWLv2 whose boxes have the size of a cell, and scores that are noise."""
    return _write_owl(folder, "Owlv2", {})


def write_owlvit(folder: Path) -> Path:
    """The same of its older kind."""
    return _write_owl(folder, "OwlViT", {"crop_size": {"height": 64, "width": 64}})


def _write_owl(folder: Path, kind: str, cutting: dict) -> Path:
    import torch
    import transformers

    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    tokenizer = transformers.CLIPTokenizerFast(tokenizer_file=str(_write_tokenizer(folder, "car")))
    tokenizer.add_special_tokens({"pad_token": "!", "eos_token": "<|endoftext|>"})
    config = getattr(transformers, f"{kind}Config")(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "num_attention_heads": 2, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    tokenizer.model_max_length = 16
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}ForObjectDetection")(config)
    with torch.no_grad():
        network.box_head.dense2.weight.zero_()
        network.box_head.dense2.bias.zero_()
    network.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    pictures = getattr(transformers, f"{kind}ImageProcessor")(size=size, **cutting)
    processor = getattr(transformers, f"{kind}Processor")
    processor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def write_grounding_dino(folder: Path) -> Path:
    """A Grounding DINO that reads three words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "the", "red", "car"]
    known = {word: number for number, word in enumerate(words)}
    written = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    written.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", known["[CLS]"]), ("[SEP]", known["[SEP]"])]
    written.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    written.save(str(folder / "tokenizer.json"))
    stages = {"depths": [1] * 4, "num_heads": [1] * 4, "out_features": ["stage2", "stage3"]}
    text = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(embed_dim=8, window_size=4, image_size=64, **stages),
        text_config=BertConfig(vocab_size=len(words), hidden_size=32, **text),
        d_model=32,  # its GroupNorm has 32 groups
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_feature_levels=3,
        num_queries=9,
        max_text_len=32,
    )
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoProcessor(
        image_processor=GroundingDinoImageProcessor(size={"height": 128, "width": 128}),
        tokenizer=BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")),
    ).save_pretrained(folder)
    return folder
