"""What drawn screens and browsers share: what a hand on mouse and keyboard can do, and what is observed."""
