"""Every change that p2r makes in other libraries."""
