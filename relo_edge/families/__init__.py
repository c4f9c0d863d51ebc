"""What a tracker is: one small module a family; all other rooms ask these and name none."""
