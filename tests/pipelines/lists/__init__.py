"""Lists for everyone: who gets one, of which songs, by what; how they are found and explained."""
