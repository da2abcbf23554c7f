"""The whole fleet on one machine: embedded servers, and processes in the place of pods."""
