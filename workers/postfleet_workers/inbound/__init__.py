"""`postfleet inbound`: takes what comes back of our mail (bounces, delays, complaints) and writes down what it says."""
