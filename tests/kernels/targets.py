"""The GPUs that every kernel of this library is compiled for: some of each family that its rows name."""

TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1200", "gfx1250", "sm_80", "sm_90", "sm_100")
