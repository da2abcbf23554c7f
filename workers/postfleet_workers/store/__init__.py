"""PostgreSQL: models, migrations, sessions."""
