"""Where frames come from: files, cameras, streams, pipelines and a synthetic camera."""
