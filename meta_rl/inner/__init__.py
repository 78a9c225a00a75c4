"""The walk of one task: update rules, their schedules, and adapting with and without gradients."""
