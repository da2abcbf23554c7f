"""The parts of `benchmarks/throughput.py`: servers, rows, the contenders, and what each costs."""
