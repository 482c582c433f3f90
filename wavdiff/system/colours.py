"""Colours of lines in plots."""

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, "Color universal design" (2008), which people with any colour vision tell apart."""
