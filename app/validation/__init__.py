"""Known results of fluid dynamics that the simulation is held to: one file a case, run by `validate`."""
