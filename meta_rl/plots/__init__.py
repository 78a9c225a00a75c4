"""Pictures and animations of what adapting does."""
