"""What touches the machine itself: files, signals, the terminal, the CPU, OpenCV."""
