"""Pictures and animations of adaptation."""
