"""FP16 and INT8 graphs: closed-loop calibration, precision in the graph, an honest verdict."""
