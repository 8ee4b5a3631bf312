"""The IPython extension: ``%load_ext parimg``, then ``%parimg`` and ``%%parimg map``.

A thin layer beside the command line: it reads what was typed, calls the library, and puts what comes into the
user's namespace. IPython loads it by way of ``parimg.load_ipython_extension``.
"""
