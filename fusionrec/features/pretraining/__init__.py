"""A small RoBERTa trained on the corpus's own lyrics, for where none can be had.

`masked_words` is the objective and its settings, `tokenizer` the vocabulary, `loop` the training.
"""
