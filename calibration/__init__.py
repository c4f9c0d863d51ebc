"""FP16, FP8 and INT8 graphs: closed-loop calibration, explicit precision, a verdict on each."""
