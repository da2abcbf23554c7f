"""What servers answer, what that means for the mail, and what it does to the node."""
