"""How the weights of a decoder become few bits: the formats, the ways of rounding into them, and what each costs."""
