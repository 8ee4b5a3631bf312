"""What objects look like in a notebook: small HTML of plain values, which may follow a job while it runs.

Values in, text out: it knows no jobs, records or images. The objects above call it from their ``_repr_html_``; of
IPython only `live` knows, and loads it when a notebook asks.
"""
