"""Numbers: grids, groups, scales, rulers, and the quantized matrix."""
