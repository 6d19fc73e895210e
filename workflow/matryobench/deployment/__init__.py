"""What cells and trainings cost, which cells are worth their cost, and which one to deploy."""
