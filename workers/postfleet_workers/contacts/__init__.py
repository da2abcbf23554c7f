"""Contacts: reading CSV files, checking addresses, and loading the result into PostgreSQL."""
