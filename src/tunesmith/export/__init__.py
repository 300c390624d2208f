"""From a model to the files that run on a device, and the proof that nothing was lost on the way."""
