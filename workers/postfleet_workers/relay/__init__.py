"""The relay: publishes due rows to Redis, holds back what may not run now, and rescues what its worker left behind."""
