"""The paper's two stages, the clips they learn from, and the demo weights."""
