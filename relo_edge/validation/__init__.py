"""What comes from files is checked at the door: types, ranges, sizes, plain names."""
