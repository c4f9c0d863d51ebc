"""How fast each runtime is, stage by stage."""
