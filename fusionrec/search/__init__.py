"""Songs by what somebody types: the beginnings of words, with typing errors, over any catalogue.

`words` is how texts become words, `edits` how many errors lie between what was typed and a
beginning of a word, `index` finds the songs.
"""
