"""Mail: templates, messages, SMTP sessions and what servers answer."""
