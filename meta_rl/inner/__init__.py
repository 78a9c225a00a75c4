"""The inner loop: update rules, schedules, and adaptation with and without gradients."""
