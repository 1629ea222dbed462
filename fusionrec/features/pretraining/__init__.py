"""A small RoBERTa trained on the corpus's own lyrics, for where none can be had.

`settings` says what is trained and how, `masked_words` is the objective, `tokenizer` the
vocabulary, `loop` the training.
"""
