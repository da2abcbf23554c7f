"""How many workers a pool should have. Pure: `values` has the words, `decide` the chain, `clamps` its links."""
