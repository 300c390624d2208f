"""Tokenizers of SentencePiece's kind, trained on the spot by SentencePiece itself and written down as transformers does."""

from __future__ import annotations

import functools
import io

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

_TEXT = (
    "The train to the city leaves at seven in the morning and arrives before noon, and the other trains arrive later.",
    "Could you send me the report by Friday? Thank you very much for the help with the reports of the other teams!",
    "Was ist der Ton dieser Nachricht? The tone of this message is happy; the tone of the other messages is sad.",
)


@functools.cache
def sentencepiece_model() -> bytes:
    """Return a SentencePiece model of type BPE with bytes to fall back on, as Llama's and Gemma's are."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXT),
        model_writer=written,
        model_type="bpe",
        vocab_size=360,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    return written.getvalue()


def sentencepiece_tokenizer(*, space_prefix: bool = True) -> PreTrainedTokenizerFast:
    """Return the fast tokenizer of that model: pairs are sorted by the score of the piece that they make.

    Args:
        space_prefix: put a blank before every text, as Llama does and Gemma does not.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    pieces = {processor.id_to_piece(number): number for number in range(processor.get_piece_size())}
    made = [
        (number, len(piece[:cut]), piece[:cut], piece[cut:])
        for piece, number in pieces.items()
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces and not processor.is_control(number) and not processor.is_byte(number)
    ]
    pairs = [(left, right) for _, _, left, right in sorted(made) if left + right != "<unk>"]
    backend = Tokenizer(models.BPE(vocab=pieces, merges=pairs, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("▁")] if space_prefix else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in ("<s>", "</s>", "<unk>", "<end_of_turn>")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
